"""What TensorFlow puts in place of portable definitions."""

__all__: list[str] = []
