"""The one error of folding, and messages as one line."""

import re

__all__ = ["FoldingError", "one_line"]


class FoldingError(ValueError):
    """A model that cannot be folded, or a folded model that failed its check.

    The message says what was found, what was expected and how to mend it. Nothing is half-changed
    when it is raised: the model that was given is as it was, and no folded model exists.

    Args:
        *message: What is said.

    Example:
        >>> from keras_addons_l6.folding import FoldingError
        >>> issubclass(FoldingError, ValueError)
        True
    """

    def __init__(self, *message: object) -> None:
        super().__init__(*message)


def one_line(error: object, limit: int = 400) -> str:
    """A message as one plain line."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())  # Keras prints some of it in bold
    return text if len(text) <= limit else text[: limit - 4] + " ..."
