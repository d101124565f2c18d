"""`minimize`: quasi-Newton methods for a function of tensors, in the backend's own operations."""

import collections
import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6.argument_checks import count, knows_its_arguments
from keras_addons_l6.backends import arrays_for, traces, widest_real
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.backends.portable.traces import Trace
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.arguments import check_size, checked_update, settings_from
from keras_addons_l6.optimizers.quasi_newton.bfgs import MAX_MEMORY
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import InverseHessian, components
from keras_addons_l6.optimizers.quasi_newton.iteration import (
    MESSAGES,
    NON_FINITE_START,
    STOPPED_BY_CALLBACK,
    Settings,
)
from keras_addons_l6.optimizers.quasi_newton.layout import Arguments, Layout, scalar
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory
from keras_addons_l6.optimizers.quasi_newton.programs import Carry, Limits, Standing
from keras_addons_l6.optimizers.quasi_newton.updates import UPDATES

__all__ = ["MinimizeResult", "minimize"]


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
        aux: what `fun` returned beside the value at x, with `has_aux=True`; else None.

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
    aux: Any = None

    @property
    def grad_norm(self) -> float:
        """`gradient_norm`, by the name that it had in version 0.1."""
        warnings.warn(
            "MinimizeResult.grad_norm is now gradient_norm; the old name goes with the next version.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.gradient_norm


@knows_its_arguments
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    *,
    method: str = "lbfgs",
    has_aux: bool = False,
    history_size: int | None = None,
    max_memory: int = MAX_MEMORY,
    gradient_tolerance: float = 1e-5,
    change_tolerance: float = 1e-9,
    max_iterations: int = 1000,
    max_evaluations: int | None = None,
    callback: Callable[[MinimizeResult], bool | None] | None = None,
) -> MinimizeResult:
    """Minimize a function by a quasi-Newton method with Hager & Zhang's line search.

    On JAX and TensorFlow value, gradient, line search and tests are compiled into one program that runs for
    about half a second at a time; on torch it is a loop. Each call traces `fun` once, and compiles only what
    it computes for the first time: tensors in `args`, and those that `fun` captured, are arguments of the
    program, read at each call. NumPy arrays, numbers and whatever else it captured are as they are at the
    call.

    Args:
        fun: From what x0 is, and `args`, to a scalar, in the backend's operations, without side effects and
            without randomness.
        x0: A tensor or array, or a nested structure of them, as the backend has them (lists, dicts, named
            tuples); `fun` is given the same structure. A list of numbers is a vector; Python's and whole numbers
            become `keras.config.floatx()`.
        args: What `fun` takes beside x: a tuple of nested structures; anything else is its only element.
            Tensors, arrays and Python's floats are traced, so that others of their shapes need no new program.
        method: "lbfgs"; "bfgs", "self_scaled_bfgs" or "self_scaled_broyden", which keep a dense inverse Hessian of
            8 n^2 bytes for n components, in float64 where the backend has it (see `BFGS`). The last is the one for
            physics-informed losses.
        has_aux: Whether `fun` returns (scalar, aux); the result has the `aux` of its point, a nested structure of
            tensors, for one more evaluation.
        history_size: >= 1, for "lbfgs" alone; curvature pairs kept; None is 10.
        max_memory: >= 1, in bytes; what a dense inverse Hessian may take.
        gradient_tolerance: >= 0; converged when no component of the gradient exceeds it.
        change_tolerance: >= 0; stalled when the value decreases by less than this, relatively; 0 switches it
            off.
        max_iterations: >= 1; accepted steps.
        max_evaluations: >= 1, or None for no limit; evaluations of value and gradient.
        callback: Called with the result so far after each chunk of iterations; returns True to stop.

    Returns:
        The best accepted point, its value, and why the run ended.

    Raises:
        ValueError: for an argument out of range; if x0 is empty or complex; if the inverse Hessian would take more
            than `max_memory`; if `fun` returns
            no real scalar, or one that does not depend on x; if the value or the gradient at x0 is infinite or
            NaN.
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
    layout = Layout(x0)
    settings = settings._replace(curvature=_curvature(method, history_size, max_memory, layout))
    problem = _Problem(fun, layout, Arguments(args, arrays_for(layout.start).real), has_aux)
    run = _Minimization(problem, settings, limits)
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


def _curvature(method: Any, history_size: Any, max_memory: Any, layout: Layout) -> Curvature:
    """What the method keeps of curvature for x0."""
    max_memory = count("minimize", "max_memory", max_memory)
    if checked_update("minimize", "method", method, ("lbfgs", *UPDATES)) == "lbfgs":
        return LimitedMemory(10 if history_size is None else count("minimize", "history_size", history_size))
    if history_size is not None:
        raise ValueError(
            f"minimize: `history_size` belongs to method='lbfgs'; {method!r} keeps all pairs, in a dense matrix. Received: "
            f"history_size={history_size!r}. Leave it out."
        )
    dtype = widest_real(layout.start)
    check_size("minimize", components(layout.start), dtype, max_memory, "method='lbfgs'")
    return InverseHessian(method, dtype)


class _Minimization:
    """One call of `minimize`: its program, and its results in x0's structure.

    Args:
        problem: The function with what it is given.
        settings: The method's arguments.
        limits: What ends the run.
    """

    def __init__(self, problem: "_Problem", settings: Settings, limits: Limits) -> None:
        self._layout, self._has_aux = problem.layout, problem.has_aux
        arrays = arrays_for(problem.layout.start)
        self.limits = programs.on_device(limits, arrays)
        trace = problem.traced()
        self._data = (problem.args.tensors, trace.constants)
        self._program = _kept_or_new(trace, problem.layout, settings, arrays)

    def chunks(self) -> Iterator[tuple[Carry, Standing]]:
        """Where the run stands, chunk by chunk; the program remembers its pace for the next run."""
        program, last = self._program, time.perf_counter()
        evaluations = 0
        # No name for the first carry: the program takes it over.
        carries = programs.run_in_chunks(
            program.chunk, program.start(self._layout.start), self._data, self.limits, program.pace
        )
        for carry, progress in carries:
            # Where the chunk was compiled it is the compiler's pace, and the next run's first chunk short.
            program.pace = (time.perf_counter() - last) / max(progress.evaluations - evaluations, 1)
            yield carry, progress
            last, evaluations = time.perf_counter(), progress.evaluations

    def result(self, carry: Carry, progress: Standing, status: str) -> MinimizeResult:
        """The result at a carry."""
        point = tuple(map(ops.convert_to_tensor, carry.state.point))
        return MinimizeResult(
            x=self._layout.pack([ops.copy(ops.stop_gradient(leaf)) for leaf in self._layout.leaves(point)]),
            fun=progress.value,
            gradient_norm=progress.gradient_norm,
            iterations=progress.iterations,
            evaluations=progress.evaluations,
            converged=progress.status == iteration.CONVERGED,
            status=status,
            aux=self._program.aux(point, *self._data) if self._has_aux else None,
        )


@dataclasses.dataclass
class _Problem:
    """A function, where its argument starts, and what else it is given."""

    fun: Callable[..., Any]
    layout: Layout
    args: Arguments
    has_aux: bool

    def traced(self) -> Trace:
        """The function of lists of tensors, as the backend traces it now."""
        leaves = self.layout.leaves(self.layout.start)
        return traces.trace(self._of_lists, leaves, self.args.tensors, programs.value_and_gradient)

    def _of_lists(self, x: Sequence[Tensor], args: Sequence[Tensor]) -> tuple[Tensor, Any]:
        found = self.fun(self.layout.pack(x), *self.args.pack(args))
        value, aux = self._value_and_aux(found) if self.has_aux else (found, ())
        return scalar(value), aux

    def _value_and_aux(self, found: Any) -> tuple[Any, Any]:
        if not isinstance(found, tuple) or len(found) != 2:
            raise ValueError(f"With `has_aux=True` `fun` must return (value, aux). Received: {type(found)}.")
        return found


@dataclasses.dataclass
class _Program:
    """What is compiled for a function."""

    start: Callable[[Sequence[Tensor]], Carry]  # before anything is evaluated
    chunk: Callable[..., Carry]
    aux: Callable[..., Any]  # what the function returns beside its value
    pace: float | None = None  # seconds an evaluation took last; None before the first run


KEPT = 64  # programs at once; each holds what a function computes, and none of the data
_programs: collections.OrderedDict[Hashable, _Program] = collections.OrderedDict()


def _kept_or_new(trace: Trace, layout: Layout, settings: Settings, arrays: NumpyArrays) -> _Program:
    """The program of what was traced: kept from an earlier trace that computes the same, or new."""
    if trace.key is None:
        return _new(trace, layout, settings, arrays)
    # What `Limits` has is the program's argument.
    method = settings._replace(gradient_tolerance=0.0, change_tolerance=0.0)
    key = (trace.key, method, arrays.real)
    if key not in _programs:
        _programs[key] = _new(trace, layout, settings, arrays)
    _programs.move_to_end(key)
    while len(_programs) > KEPT:
        _programs.popitem(last=False)
    return _programs[key]


def _new(trace: Trace, layout: Layout, settings: Settings, arrays: NumpyArrays) -> _Program:
    """A program, compiled when it is first called; of the layout it takes shapes and dtypes only."""
    form = layout.of_any_values()
    vectors, leaves, traced = form.vectors, form.leaves, trace.evaluate  # not `trace`, which holds data

    def evaluate(trial: Sequence[Tensor], extra: Any, data: Any) -> tuple[Tensor, Sequence[Tensor], Any]:
        value, gradient, _ = traced(leaves(trial), *data)
        return value, vectors(gradient), extra

    def aux(point: Sequence[Tensor], args: Sequence[Tensor], constants: Sequence[Tensor]) -> Any:
        found = traced(leaves(point), args, constants)[2]
        return keras.tree.map_structure(lambda x: ops.stop_gradient(x) if ops.is_tensor(x) else x, found)

    first = programs.compile_program(functools.partial(programs.first_carry, arrays, settings))
    return _Program(
        start=lambda parameters: programs.owned(first(parameters)),
        chunk=programs.chunk_program(evaluate, settings, arrays, donate=True),
        aux=programs.compile_program(aux),
    )


def _check_start(progress: Standing) -> None:
    """Raise where the run could not start."""
    if progress.status == NON_FINITE_START:
        raise ValueError(
            f"`fun` is infinite or NaN at `x0`, or its gradient is: fun(x0) = {progress.start_value}. Start "
            "from a point where both are finite."
        )
