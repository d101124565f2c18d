"""Building: the tape played again into fresh stock layers."""

__all__: list[str] = []
