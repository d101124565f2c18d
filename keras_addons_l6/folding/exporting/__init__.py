"""Exporting: artifacts written, reloaded and compared."""
