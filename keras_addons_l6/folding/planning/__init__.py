"""Planning: where the affine map of each BatchNorm call goes, or why it stays."""

__all__: list[str] = []
