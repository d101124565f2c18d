"""What JAX puts in place of portable definitions."""
