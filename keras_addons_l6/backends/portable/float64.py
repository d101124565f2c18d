"""What true float64 needs of a backend beyond Keras's own promotion: attention, whose softmax Keras takes in float32."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

__all__ = ["EXACT", "LIBRARY", "WIDE", "compiled", "exact_attention", "precision", "set_precision"]

Replacement = Callable[[Any], Any]

WIDE: Any = None
"""The backend's own precision in true float64, as `set_precision` takes it."""

LIBRARY: Mapping[str, Replacement] = {}
"""By the name under which Keras's conversions find their library: from that to one that rounds no Python number."""


def precision() -> Any:
    """The precision of numbers that the backend makes on its own."""
    return WIDE


def set_precision(value: Any) -> None:
    """Set what `precision` returns."""
    del value


def compiled(program: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A program of many small operations in the way that takes the backend the least time to run once."""
    return program


def exact_attention(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's attention but for float64, of which it takes the softmax in float32, or on TensorFlow the scale."""

    @functools.wraps(original)
    def dot_product_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [ops.convert_to_tensor(x) for x in (query, key, value)]
        wide = all(keras.backend.standardize_dtype(x.dtype) == "float64" for x in tensors)
        return (_attention if wide else original)(*tensors, *args, **kwargs)

    return dot_product_attention


def _attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Any:
    """softmax(scale query key' + bias) value over (batch, time, heads, depth), with Keras's arguments.

    The last two are for kernels in lower precision, which Keras's own function does not use for float64 either.
    """
    del flash_attention, attn_logits_soft_cap
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = scale * ops.einsum("btnh,bsnh->bnts", query, key)
    scores = scores if bias is None else scores + ops.cast(bias, scores.dtype)
    seen = ops.ones_like(scores[:1, :1], dtype="bool")
    seen = ops.tril(seen) if is_causal else seen
    seen = seen if mask is None else ops.logical_and(seen, ops.cast(mask, "bool"))
    # finite, as Keras's own: a row that sees nothing averages all
    scores = ops.where(seen, scores, _UNSEEN)
    return ops.einsum("bnts,bsnh->btnh", ops.softmax(scores), value)


_UNSEEN = -1e308

EXACT: Mapping[str, Replacement] = {"dot_product_attention": exact_attention}
"""By the name of an operation of neural networks that rounds float64: from Keras's function to one that does not."""
