"""The switch that makes Keras's float64 real: what it sets, and what it puts back."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from keras_addons_l6 import backends, keras_private
from keras_addons_l6.keras_private import Entry
from keras_addons_l6.precision.probe import check_float64

__all__ = ["disable_float64", "enable_float64", "float64"]


class _Settings(NamedTuple):
    """All that the switch touches."""

    floatx: str
    policy: keras.DTypePolicy | None
    """Of layers that are given none; `None` where it follows `floatx`."""
    native: Any
    """The backend's own precision."""
    entries: tuple[Entry, ...]
    """Of Keras's tables and modules."""


class _Switched(NamedTuple):
    """The settings before float64 was enabled, and those that enabling it made."""

    before: _Settings
    wide: _Settings


_switched: _Switched | None = None


def enable_float64() -> None:
    """Make float64 stay float64 in all that Keras computes, until `disable_float64` is called.

    Keras 3.12 and later round float64 to float32 in many operations on JAX and torch, whatever `floatx` says (matrix
    products, means, activations, so layers and losses), and every Keras on TensorFlow does it to Python's numbers. Call
    this **before models are built**: layers keep the type they were made with, and compiled functions the arithmetic that
    they were traced with. It sets, in this process:

    * `keras.config.floatx()` and the default dtype policy to float64;
    * on JAX `jax_enable_x64`; where that was set already, JAX forgets the functions that it has compiled;
    * Keras's own promotion of types: float64 stays, and Python's `float` is float64;
    * what rounds by itself: attention on JAX and TensorFlow; on TensorFlow GELU, leaky ReLU and Python's numbers.

    Then it computes what networks consist of and compares each result with NumPy's. Nothing happens at import; calling it
    again changes nothing. Models and data in another type keep theirs, but for data given to `fit`, which Keras casts to
    `floatx`.

    Raises:
        RuntimeError: if an operation still rounds, naming the first, or if Keras has moved what has to be changed. All is
            then as it was before the call.

    Example:
        >>> enable_float64()
        >>> y = keras.ops.tanh(keras.ops.convert_to_tensor(0.5))
        >>> f"{float(y):.14f}"  # in float32 0.46211716532707
        '0.46211715726001'
        >>> disable_float64()
        >>> keras.config.floatx()
        'float32'
    """
    global _switched
    now = _settings()
    before = now if _switched is None else _switched.before
    wide = _widened(before) if _switched is None else _switched.wide
    if now == wide:
        return
    try:
        _put(wide)
        check_float64()
    except BaseException:
        _put(now)
        raise
    _switched = _Switched(before, wide)


def disable_float64() -> None:
    """Put back all that `enable_float64` changed, exactly as it was; where it was never called nothing happens.

    Models built in between keep their float64 weights, and belong into another `float64()` block.

    Example:
        >>> enable_float64()
        >>> disable_float64()
        >>> keras.config.floatx()
        'float32'
    """
    global _switched
    if _switched is not None:
        _put(_switched.before)
        _switched = None


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Enable float64 inside a `with` block, and put back after it what was before; blocks may lie inside each other.

    Raises:
        RuntimeError: as `enable_float64`.

    Example:
        >>> with float64():
        ...     keras.config.floatx()
        'float64'
        >>> keras.config.floatx()
        'float32'
    """
    global _switched
    entry, switched = _settings(), _switched
    enable_float64()
    try:
        yield
    finally:
        _put(entry)
        _switched = switched


def _settings() -> _Settings:
    return _Settings(
        floatx=keras.config.floatx(),
        policy=keras_private.default_policy(),
        native=_backend().precision(),
        entries=tuple(entry.now() for entry in _wide_entries()),
    )


def _widened(before: _Settings) -> _Settings:
    return _Settings(
        floatx="float64",
        policy=keras.DTypePolicy("float64"),
        native=_backend().WIDE,
        entries=tuple(_wide_entries()),
    )


def _put(settings: _Settings) -> None:
    if settings == _settings():
        return  # setting the backend's precision makes JAX forget its programs
    keras.config.set_floatx(settings.floatx)
    keras_private.set_default_policy(settings.policy)
    for entry in settings.entries:
        entry.put()
    _backend().set_precision(settings.native)


def _wide_entries() -> list[Entry]:
    """What must stand in Keras's tables and modules, made from what stands there."""
    own = _backend()
    replaced = [(keras_private.operation_of_backend(name), exact) for name, exact in own.EXACT.items()]
    replaced += [(keras_private.library_of_conversions(name), wide) for name, wide in own.LIBRARY.items()]
    return [
        *keras_private.type_tables(),
        *(entry._replace(value=replacement(entry.value)) for entry, replacement in replaced),
    ]


def _backend() -> Any:
    """The active backend's part of it."""
    return backends.chosen("float64")
