"""The state of L-BFGS in an optimizer's variables, so that checkpoints and every trainer carry it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.keras_private import in_stateless_scope
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.iteration import COUNT_NAMES, REAL_NAMES, VECTORS, State


class Marks(NamedTuple):
    """What an optimizer must remember beside the method's state; all zero before the first step."""

    in_search: Scalar  # 0: the next evaluation is a start, 1: it is the trial that the last step asked for
    evidence: Scalar  # what trials were accepted on, see `optimizer.py`; 0 before the first
    batches: Scalar  # seen so far of the ones that make up a full batch
    doubt: Scalar  # how strongly recent values contradict recent slopes, see `consistency.py`
    differs: Scalar  # 1 once they did for long


class Slots:
    """The optimizer variables that hold a `State`, `Marks`, and which parameters had a gradient.

    Variables are made in this order, which states saved by version 0.1.0 rely on: for each parameter `point`,
    `gradient`, `direction`, `rings`; then `products`, `reals`, `counts`, `marks`, `trained`, `value_accumulator`.

    Args:
        optimizer: The optimizer that the variables belong to.
        parameters: The variables that it trains.
        history_size: Rows of each ring.
    """

    def __init__(self, optimizer: Any, parameters: Sequence[Any], history_size: int) -> None:
        self.parameters = list(parameters)
        self.arrays: NumpyArrays = arrays_for(self.parameters)
        columns: dict[str, list[Any]] = {name: [] for name in (*VECTORS, "rings")}
        for parameter in self.parameters:
            for name, column in columns.items():
                column.append(_add_beside(optimizer, parameter, name, history_size))
        self._tensors = columns
        m, real = history_size, self.arrays.real
        self._numbers = {
            "products": optimizer.add_variable((2, m, m), dtype=real, name="products"),
            "reals": optimizer.add_variable((len(REAL_NAMES),), dtype=real, name="reals"),
            "counts": optimizer.add_variable((len(COUNT_NAMES),), dtype="int32", name="counts"),
        }
        self.marks = optimizer.add_variable((len(Marks._fields),), dtype="int32", name="marks")
        self.trained = optimizer.add_variable((len(self.parameters),), dtype="int32", name="trained")
        self.value_accumulator = optimizer.add_variable((), dtype=real, name="value_accumulator")

    def weights(self) -> tuple[Tensor, ...]:
        """The parameters' values; half precision is worked on in float32, and rounded when written."""
        return tuple(
            keras.ops.cast(_tensor(v), p.dtype) for v, p in zip(self.parameters, self.points, strict=True)
        )

    def read(self) -> State:
        """The state as tensors."""
        tensors = {name: tuple(_tensor(v) for v in column) for name, column in self._tensors.items()}
        if keras.backend.backend() == "torch" and in_stateless_scope():
            # The method writes rows into rings in place; in a stateless scope these are the caller's.
            tensors["rings"] = tuple(ring.clone() for ring in tensors["rings"])
        return State(**tensors, **{name: _tensor(v) for name, v in self._numbers.items()})

    def write(self, state: State) -> None:
        """Keep a state."""
        for name, column in self._tensors.items():
            for variable, value in zip(column, getattr(state, name), strict=True):
                assign(variable, value)
        for name, variable in self._numbers.items():
            assign(variable, getattr(state, name))

    def write_marks(self, marks: Marks) -> None:
        """Keep marks."""
        assign(self.marks, self.arrays.pack(marks, "int32"))

    def number(self, name: str) -> Any:
        """A number of the state, or one of `Marks`, as a NumPy scalar."""
        if name in Marks._fields:
            return numpy_of(self.marks)[Marks._fields.index(name)]
        numbers = {key: numpy_of(self._numbers[key]) for key in ("reals", "counts")}
        return (
            numbers["reals"][REAL_NAMES.index(name)]
            if name in REAL_NAMES
            else numbers["counts"][COUNT_NAMES.index(name)]
        )

    @property
    def points(self) -> list[Any]:
        """The variables that hold the accepted point, one a parameter."""
        return self._tensors["point"]


def assign(variable: Any, value: Any) -> None:
    """Write a value into a variable, unless it is the variable's own tensor."""
    if value is not variable.value:
        variable.assign(value)


def without_history(arrays: NumpyArrays, state: State, condition: Scalar) -> State:
    """The state, with no curvature pairs if `condition`."""
    others = np.array([name != "pairs" for name in COUNT_NAMES], "int32")
    kept = arrays.select(condition, others, np.ones_like(others))
    return state._replace(counts=arrays.local(state.counts) * kept)


def restarted(arrays: NumpyArrays, state: State, condition: Scalar) -> State:
    """The state, about to begin afresh from the next point it is given if `condition`."""
    fresh = iteration.restart(arrays, state)
    pick = {
        name: arrays.select(condition, getattr(fresh, name), arrays.local(getattr(state, name)))
        for name in ("reals", "counts")
    }
    return state._replace(**pick)


def _tensor(variable: Any) -> Tensor:
    return keras.ops.convert_to_tensor(variable)


def _add_beside(optimizer: Any, parameter: Any, name: str, history_size: int) -> Any:
    """A variable of a parameter's shape and layout, with the rings' rows before it."""
    rows: tuple[int, ...] = (2 * history_size,) if name == "rings" else ()
    dtype = keras.backend.standardize_dtype(parameter.dtype)
    variable = optimizer.add_variable(
        (*rows, *parameter.shape),
        dtype=iteration.working_dtype(dtype),
        layout=_layout_beside(parameter, len(rows)),
        name=f"{path_of(parameter).replace('/', '_')}_{name}",
    )
    optimizer._belongs(variable, name, parameter)
    return variable


def zeros_beside(variable: Any) -> Tensor:
    """Zeros of a variable's shape and dtype; `ops.zeros_like` takes no variable on JAX."""
    return keras.ops.zeros(tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype))


def numpy_of(variable: Any) -> np.ndarray:
    """A variable's value on the host; of its tensor, since NumPy 2 warns about a variable."""
    return keras.ops.convert_to_numpy(_tensor(variable))


def path_of(variable: Any) -> str:
    """A variable's path; a `tf.Variable` has a name only."""
    return getattr(variable, "path", variable.name.replace(":", "_"))


def _layout_beside(parameter: Any, rows: int) -> Any:
    """The layout of a distributed JAX parameter, with whole rows before it; else None."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return None
    import jax

    sharding = parameter.value.sharding
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return None
    return jax.sharding.NamedSharding(
        sharding.mesh, jax.sharding.PartitionSpec(*[None] * rows, *sharding.spec)
    )
