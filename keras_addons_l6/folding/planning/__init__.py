"""Planning: where the affine map of each BatchNorm call goes, or why it stays."""
