"""What TensorFlow puts in place of portable definitions."""
