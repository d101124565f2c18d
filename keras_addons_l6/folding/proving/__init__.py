"""Proving: the folded model compared with the original."""
