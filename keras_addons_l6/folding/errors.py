"""The one error of folding."""


class FoldingError(ValueError):
    """A model that cannot be folded, or a folded model that failed its check.

    The message says what was found, what was expected and how to mend it. Nothing is half-changed
    when it is raised: the model that was given is as it was, and no folded model exists.
    """
