"""Proving: a folded model held against the original, tensor by tensor."""

__all__: list[str] = []
