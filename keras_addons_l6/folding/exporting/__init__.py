"""Exporting: artifacts written, reloaded and compared."""

__all__: list[str] = []
