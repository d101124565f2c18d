"""Recording: a model as a tape of calls."""

__all__: list[str] = []
