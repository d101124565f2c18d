"""Masks of normalizations: which values count in the statistics, in the rank of the input."""

from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers.arguments import Shape

__all__ = ["aligned"]


def aligned(layer: str, mask: Tensor, x: Tensor, axis: int) -> Tensor:
    """`mask` with axes of length 1 added, so that it broadcasts against `x`.

    Args:
        layer: Name of the layer, for the error.
        mask: Which values count. It covers leading axes of `x`, one or all of them, with sizes equal or 1, and
            may leave out the channel axis.
        x: The tensor it belongs to.
        axis: Channel axis of `x`, from 0.

    Raises:
        ValueError: the mask fits neither the leading axes nor those without the channels.
    """
    rank, leading = len(mask.shape), tuple(x.shape)
    without_channels = leading[:axis] + leading[axis + 1 :]
    if 0 < rank <= len(leading) and _fits(mask.shape, leading[:rank]):
        added = [*range(rank, len(leading))]
    elif 0 < rank < len(leading) and _fits(mask.shape, without_channels[:rank]):
        added = [axis, *range(rank + 1, len(leading))]
    else:
        raise ValueError(
            f"{layer}: a mask of shape {tuple(mask.shape)} does not fit inputs of shape {leading}. Expected "
            f"the sizes of leading axes of the inputs, or of {without_channels}, which leaves out "
            f"channel axis {axis}; a size may also be 1."
        )
    for a in added:
        mask = ops.expand_dims(mask, a)
    return mask


def _fits(mask_shape: Shape, shape: Shape) -> bool:
    return all(m is None or n is None or m in (1, n) for m, n in zip(mask_shape, shape, strict=True))
