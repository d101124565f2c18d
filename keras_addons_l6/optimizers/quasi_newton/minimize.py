"""`minimize`: L-BFGS for a function of tensors, in the backend's own operations."""

import dataclasses
import functools
import numbers
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_addons_l6.argument_checks import count, knows_its_arguments
from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.arguments import settings_from, warn_if_narrower
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.iteration import (
    MESSAGES,
    NON_FINITE_START,
    STOPPED_BY_CALLBACK,
    Settings,
    State,
)
from keras_addons_l6.optimizers.quasi_newton.programs import Carry, Limits, Standing


@dataclasses.dataclass(frozen=True)
class MinimizeResult:
    """Where `minimize` ended, or stands.

    Attributes:
        x: the best accepted point, of x0's structure.
        fun: the value there.
        gradient_norm: the largest component of the gradient there.
        iterations: accepted steps.
        evaluations: evaluations of value and gradient.
        converged: whether gradient_norm <= gradient_tolerance.
        status: why it ended, in words.

    Example:
        >>> from keras import ops
        >>> from keras_addons_l6.optimizers import minimize
        >>> result = minimize(lambda x: ops.sum((x - 3.0) ** 2), ops.zeros((2,)))
        >>> result.converged
        True
    """

    x: Any
    fun: float
    gradient_norm: float
    iterations: int
    evaluations: int
    converged: bool
    status: str

    @property
    def grad_norm(self) -> float:
        """`gradient_norm`, by the name that it had in version 0.1."""
        warnings.warn(
            "MinimizeResult.grad_norm is now gradient_norm; the old name goes with the next version.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.gradient_norm


class _Layout:
    """How x0's tensors lie in one vector for each dtype: a pass over one is quicker than over many.

    Args:
        x0: A tensor, or a list or dict of them.
    """

    def __init__(self, x0: Any) -> None:
        self._structure = _with_vectors(x0)
        self._is_nested = keras.tree.is_nested(self._structure)
        leaves = [_as_tensor(leaf) for leaf in keras.tree.flatten(self._structure)]
        self._shapes = [tuple(leaf.shape) for leaf in leaves]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves]
        worked = [iteration.working_dtype(dtype) for dtype in self._dtypes]
        self._members = {d: [i for i, own in enumerate(worked) if own == d] for d in dict.fromkeys(worked)}
        # Where x0 is what the method works on there is nothing to do, and an eager loop would do it at each evaluation.
        self._is_one_vector = [len(shape) for shape in self._shapes] == [1] and self._dtypes == worked
        self.start = self.vectors(leaves)

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled program depends on."""
        names = str(keras.tree.map_structure(lambda _: 0, self._structure))
        return names, tuple(self._shapes), tuple(self._dtypes)

    def vectors(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One vector for each dtype."""
        if self._is_one_vector:
            return tuple(leaves)
        return tuple(
            _joined([_cast(_reshape(leaves[i], (self._sizes[i],)), self._dtypes[i], dtype) for i in members])
            for dtype, members in self._members.items()
        )

    def leaves(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors in the order of x0's."""
        if self._is_one_vector:
            return list(vectors)
        found: dict[int, Tensor] = {}
        for vector, (dtype, members) in zip(vectors, self._members.items(), strict=True):
            start = 0
            for i in members:
                part = vector if len(members) == 1 else vector[start : start + self._sizes[i]]
                found[i] = _cast(_reshape(part, self._shapes[i]), dtype, self._dtypes[i])
                start += self._sizes[i]
        return [found[i] for i in range(len(self._shapes))]

    def pack(self, leaves: Sequence[Tensor]) -> Any:
        """The tensors in x0's structure."""
        if not self._is_nested:
            return leaves[0]
        return keras.tree.pack_sequence_as(self._structure, list(leaves))


# What changes nothing is not called: an eager loop would pay for it at every evaluation.
def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape) == shape else ops.reshape(x, shape)


def _cast(x: Tensor, dtype: str, wanted: str) -> Tensor:
    return x if dtype == wanted else ops.cast(x, wanted)


def _joined(vectors: list[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else ops.concatenate(vectors)


@knows_its_arguments
def minimize(
    fun: Callable[[Any], Tensor],
    x0: Any,
    *,
    history_size: int = 10,
    gradient_tolerance: float = 1e-5,
    change_tolerance: float = 1e-9,
    max_iterations: int = 1000,
    max_evaluations: int | None = None,
    callback: Callable[[MinimizeResult], bool | None] | None = None,
) -> MinimizeResult:
    """Minimize a function by L-BFGS with Hager & Zhang's line search.

    On JAX and TensorFlow value, gradient, line search and tests are compiled into one program that runs for
    about half a second at a time; on torch it is a loop. The program of a function is kept as long as the
    function itself; each later call evaluates `fun` once uncompiled, and compiles it anew if what it captured
    has changed.

    Args:
        fun: From what x0 is to a scalar, in the backend's operations, without side effects and without
            randomness.
        x0: A tensor or array, or a list or dict of them, also nested; a list of numbers is a vector. Whole
            numbers become `keras.config.floatx()`.
        history_size: >= 1; curvature pairs kept. Physics-informed losses gain from 50 and more.
        gradient_tolerance: >= 0; converged when no component of the gradient exceeds it.
        change_tolerance: >= 0; stalled when the value decreases by less than this, relatively; 0 switches it
            off.
        max_iterations: >= 1; accepted steps.
        max_evaluations: >= 1, or None for no limit; evaluations of value and gradient.
        callback: Called with the result so far after each chunk of iterations; returns True to stop.

    Returns:
        The best accepted point, its value, and why the run ended.

    Raises:
        ValueError: for an argument out of range; if `fun` returns no real scalar; if the value or the
            gradient at x0 is infinite or NaN.
        KeyboardInterrupt: on Ctrl-C, after the running chunk; `callback` has seen the result before it.

    Example:
        >>> from keras import ops
        >>> from keras_addons_l6.optimizers import minimize
        >>> def rosenbrock(x):
        ...     return ops.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
        >>> result = minimize(rosenbrock, ops.zeros((2,)), gradient_tolerance=1e-3)
        >>> result.converged
        True
        >>> [round(float(v), 2) for v in result.x]
        [1.0, 1.0]
    """
    settings = settings_from(
        "minimize",
        history_size=history_size,
        gradient_tolerance=gradient_tolerance,
        change_tolerance=change_tolerance,
    )
    limits = Limits(
        evaluations=iteration.NO_LIMIT
        if max_evaluations is None
        else count("minimize", "max_evaluations", max_evaluations),
        iterations=count("minimize", "max_iterations", max_iterations),
        gradient_tolerance=settings.gradient_tolerance,
        change_tolerance=settings.change_tolerance,
    )
    run = _Minimization(fun, _Layout(x0), settings, limits)
    with DeferredInterrupt() as interrupt:
        for carry, progress in run.chunks():
            _check_start(progress)
            status = programs.end_of(progress, limits)
            result = run.result(carry, progress, MESSAGES[status])
            if status not in iteration.ACTIVE or interrupt.requested:
                break
            if callback is not None and callback(result):
                return dataclasses.replace(result, status=STOPPED_BY_CALLBACK)
    return result


class _Minimization:
    """One call of `minimize`: its compiled program, and its results in x0's structure.

    Args:
        fun: The function to minimize.
        layout: How its argument lies in vectors.
        settings: The method's arguments.
        limits: What ends the run.
    """

    def __init__(
        self, fun: Callable[[Any], Tensor], layout: _Layout, settings: Settings, limits: Limits
    ) -> None:
        self._fun, self._layout, self._settings = fun, layout, settings
        self._arrays = arrays_for(layout.start)
        self.limits = programs.on_device(limits, self._arrays)
        self._program = self._kept_or_new()

    def chunks(self) -> Iterator[tuple[Carry, Standing]]:
        """Where the run stands, chunk by chunk, by a program that agrees with `fun` as it is now."""
        values: list[float] = []
        check = None if self._program.pace is None else lambda: values.append(self._value_at_start())
        for carry, progress in self._paced(check):
            if values and not self._agree(values.pop(), progress.start_value):
                _programs.pop(self._fun)
                self._program = self._kept_or_new()
                yield from self._paced()
                return
            yield carry, progress

    def _paced(self, meanwhile: Callable[[], None] | None = None) -> Iterator[tuple[Carry, Standing]]:
        """The run by the program as it is, which remembers its pace for the next run."""
        program, vectors = self._program, self._layout.start
        first = Carry(program.state(vectors), vectors, ())
        start, evaluations = time.perf_counter(), 0
        run = programs.run_in_chunks(program.chunk, first, (), self.limits, program.pace, meanwhile)
        for carry, progress in run:
            # Where the chunk was compiled it is the compiler's pace, and the next run's first chunk short.
            program.pace = (time.perf_counter() - start) / max(progress.evaluations - evaluations, 1)
            yield carry, progress
            start, evaluations = time.perf_counter(), progress.evaluations

    def result(self, carry: Carry, progress: Standing, status: str) -> MinimizeResult:
        """The result at a carry."""
        return MinimizeResult(
            x=self._layout.pack(self._layout.leaves(carry.state.point)),
            fun=progress.value,
            gradient_norm=progress.gradient_norm,
            iterations=progress.iterations,
            evaluations=progress.evaluations,
            converged=progress.status == iteration.CONVERGED,
            status=status,
        )

    def _value_at_start(self) -> float:
        return float(
            ops.convert_to_numpy(self._fun(self._layout.pack(self._layout.leaves(self._layout.start))))
        )

    def _agree(self, value: float, compiled: float) -> bool:
        """Whether `fun` itself gives what its program gave: else something it captured has changed."""
        # A generous bound for one evaluation's rounding: what exceeds it by chance only costs a compilation.
        roundings = 1000 * np.finfo(self._arrays.real).eps
        return bool(np.isclose(value, compiled, rtol=roundings, atol=0.0, equal_nan=True))

    def _kept_or_new(self) -> "_Program":
        """The compiled program of the function."""
        if keras.backend.backend() == "torch":  # nothing to compile, so nothing to keep
            return self._new(lambda: self._fun)
        key = (self._layout.key, self._settings.history_size, self._arrays.real)
        try:
            kept = _programs.setdefault(self._fun, {})
            fun: Callable[[], Any] = weakref.ref(self._fun)
        except TypeError:  # no weak reference to such an object
            kept, fun = {}, lambda: self._fun
        if key not in kept:
            kept[key] = self._new(fun)
        return kept[key]

    def _new(self, fun: Callable[[], Callable[[Any], Tensor]]) -> "_Program":
        arrays, settings = self._arrays, self._settings
        return _Program(
            programs.compile_program(functools.partial(programs.starting_state, arrays, settings)),
            programs.chunk_program(_objective(fun, self._layout), settings, arrays),
        )


@dataclasses.dataclass
class _Program:
    """What is compiled for a function."""

    state: Callable[[Sequence[Tensor]], State]  # before anything is evaluated
    chunk: Callable[..., Carry]
    pace: float | None = None  # seconds an evaluation took last; None before the first run


# Weak, so that a program goes, with the data that it captured, when its function does.
_programs: weakref.WeakKeyDictionary[Callable[..., Any], dict[Any, _Program]] = weakref.WeakKeyDictionary()


def _objective(fun: Callable[[], Callable[[Any], Tensor]], layout: _Layout) -> programs.Evaluate:
    """Value and gradient of a function, in vectors; the function is asked for when it is traced."""

    def value_of(leaves: Sequence[Tensor]) -> tuple[Tensor, tuple[()]]:
        return _scalar(fun()(layout.pack(leaves))), ()

    differentiated = programs.value_and_gradient(value_of)

    def evaluate(trial: Sequence[Tensor], extra: Any, data: Any) -> tuple[Tensor, Sequence[Tensor], Any]:
        value, gradient, _ = differentiated(layout.leaves(trial))
        return value, layout.vectors(gradient), extra

    return evaluate


def _scalar(value: Any) -> Tensor:
    """What `fun` returned, checked."""
    if not ops.is_tensor(value):
        value = ops.convert_to_tensor(value)
    if tuple(value.shape) != () or not _is_floating(value.dtype):
        raise ValueError(
            f"`fun` must return one real number. Received: shape {tuple(value.shape)}, dtype "
            f"{keras.backend.standardize_dtype(value.dtype)}."
        )
    return value


@functools.cache
def _is_floating(dtype: Any) -> bool:
    """Whether a dtype of the backend is a real floating-point one; asked at every evaluation of an eager loop."""
    return "float" in keras.backend.standardize_dtype(dtype)


def _with_vectors(x0: Any) -> Any:
    """x0 with lists of plain numbers as the vectors they mean."""
    if isinstance(x0, dict):
        return {key: _with_vectors(value) for key, value in x0.items()}
    if not isinstance(x0, list | tuple):
        return x0
    if all(isinstance(leaf, numbers.Real) for leaf in keras.tree.flatten(x0)):
        return ops.convert_to_tensor(x0, keras.config.floatx())
    return [_with_vectors(value) for value in x0]


def _as_tensor(leaf: Any) -> Tensor:
    """One of x0's tensors, of a real floating-point dtype."""
    tensor = ops.stop_gradient(ops.convert_to_tensor(leaf))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "complex" in dtype:
        raise ValueError(
            f"`x0` must be real: optimize real and imaginary parts as two tensors. Received dtype {dtype}."
        )
    if hasattr(leaf, "dtype"):
        warn_if_narrower([(leaf.dtype, dtype)])
    return tensor if "float" in dtype else ops.cast(tensor, keras.config.floatx())


def _check_start(progress: Standing) -> None:
    """Raise where the run could not start."""
    if progress.status == NON_FINITE_START:
        raise ValueError(
            f"`fun` is infinite or NaN at `x0`, or its gradient is: fun(x0) = {progress.start_value}. Start "
            "from a point where both are finite."
        )
