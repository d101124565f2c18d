"""The state of a quasi-Newton method in an optimizer's variables, so that checkpoints and every trainer carry it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.keras_private import in_stateless_scope
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature, Form
from keras_addons_l6.optimizers.quasi_newton.iteration import COUNT_NAMES, REAL_NAMES, VECTORS, State
from keras_addons_l6.optimizers.quasi_newton.vectors import working_dtype

__all__ = ["Marks", "Slots", "assign", "numpy_of", "path_of", "restarted", "without_history", "zeros_beside"]


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
    `gradient`, `direction` and what the curvature keeps beside a parameter (`rings`); then what it keeps for all
    (`products`), `reals`, `counts`, `marks`, `trained`, `value_accumulator`.

    Args:
        optimizer: The optimizer that the variables belong to.
        parameters: The variables that it trains.
        curvature: What the method keeps of curvature.
    """

    def __init__(self, optimizer: Any, parameters: Sequence[Any], curvature: Curvature) -> None:
        self.parameters = list(parameters)
        self.arrays: NumpyArrays = arrays_for(self.parameters)
        forms = curvature.forms(self.arrays, self.parameters)
        rows = dict.fromkeys(VECTORS, 0) | {name: forms.pop(name).shape[0] for name in curvature.columns}
        columns: dict[str, list[Any]] = {name: [] for name in rows}
        for parameter in self.parameters:
            for name, column in columns.items():
                column.append(_add_beside(optimizer, parameter, name, rows[name]))
        self._tensors = columns
        forms["reals"] = Form((len(REAL_NAMES),), self.arrays.real)
        forms["counts"] = Form((len(COUNT_NAMES),), "int32")
        self._numbers = {
            name: optimizer.add_variable(form.shape, dtype=form.dtype, name=name)
            for name, form in forms.items()
        }
        self._curvature = curvature
        real = self.arrays.real
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
        found: dict[str, Any] = {
            name: tuple(self._given(name, variable) for variable in column)
            for name, column in self._tensors.items()
        }
        found |= {name: self._given(name, variable) for name, variable in self._numbers.items()}
        kind = self._curvature.memory
        return State(memory=kind(**{name: found.pop(name) for name in kind._fields}), **found)

    def _given(self, name: str, variable: Any) -> Tensor:
        """A variable's tensor; a copy where the method would write into what is the caller's."""
        tensor = _tensor(variable)
        if name not in self._curvature.written or keras.backend.backend() != "torch":
            return tensor
        return tensor.clone() if in_stateless_scope() else tensor

    def write(self, state: State) -> None:
        """Keep a state."""
        values = state._asdict()
        values |= values.pop("memory")._asdict()
        for name, column in self._tensors.items():
            for variable, value in zip(column, values[name], strict=True):
                assign(variable, value)
        for name, variable in self._numbers.items():
            assign(variable, values[name])

    def write_marks(self, marks: Marks) -> None:
        """Keep marks."""
        assign(self.marks, self.arrays.pack(marks, "int32"))

    def number(self, name: str) -> Any:
        """A number of the state, or one of `Marks`, as a NumPy scalar; else what the curvature keeps under that name."""
        if name in Marks._fields:
            return numpy_of(self.marks)[Marks._fields.index(name)]
        if name in REAL_NAMES:
            return numpy_of(self._numbers["reals"])[REAL_NAMES.index(name)]
        if name in COUNT_NAMES:
            return numpy_of(self._numbers["counts"])[COUNT_NAMES.index(name)]
        return numpy_of(self._numbers[name])

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


def _add_beside(optimizer: Any, parameter: Any, name: str, count: int) -> Any:
    """A variable of a parameter's shape and layout, with an axis of so many rows before it if there are any."""
    rows = (count,) if count else ()
    dtype = keras.backend.standardize_dtype(parameter.dtype)
    variable = optimizer.add_variable(
        (*rows, *parameter.shape),
        dtype=working_dtype(dtype),
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
