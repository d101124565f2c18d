"""Recording: a model as a tape of calls."""
