"""What torch puts in place of portable definitions."""
