"""L-BFGS: the method in parts, and its entrances."""
