"""L-BFGS as a pure function of its state: `init`, then `step` once for each evaluation of the objective.

How to drive it:

    arrays = arrays_for(parameters)                  # arrays.py
    state = init(arrays, settings, parameters)       # evaluates nothing
    trial = parameters
    while read(state, "status") in ACTIVE:           # steps after the end change nothing
        value, gradient = objective(trial)
        with arrays.scope():
            state, trial = step(arrays, settings, state, trial, gradient, value)  # value=None: slopes alone
    trial                                            # at the end the accepted point, which is state.point too

`point` and what `step` returns as the trial have the parameters' dtypes; gradient, direction, s and y at least float32.
`products`, `reals` and `counts` are NumPy arrays on torch, but `step` and `restart` take them as tensors too.

`State` is a flat NamedTuple of arrays (tuples of them, one a parameter) whose shapes and dtypes never change: it can be
the carry of a compiled loop, or be kept in variables and taken up again bit for bit in the middle of a search.
`read(state, name)` gives a number of it by name: value, gradient_norm, status, iterations, evaluations and the other fields of
`Progress` and `Search`. `restart(arrays, state)` makes the next step begin afresh, at whatever point it is given,
with the history kept. `MESSAGES[status]` says a status in words. `step` must run inside `with arrays.scope():`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from keras_addons_l6.optimizers.lbfgs import history as pairs_of
from keras_addons_l6.optimizers.lbfgs import line_search
from keras_addons_l6.optimizers.lbfgs.arrays import NumpyArrays, Scalar, Small, Tensor
from keras_addons_l6.optimizers.lbfgs.history import History, dot, largest
from keras_addons_l6.optimizers.lbfgs.line_search import Point, Search, Tolerance

(
    STARTING,
    RUNNING,
    CONVERGED,
    STALLED,
    ROUNDING,
    LINE_SEARCH_FAILED,
    NON_FINITE_START,
    MAX_ITERATIONS,
    MAX_EVALUATIONS,
) = range(9)
ACTIVE = (STARTING, RUNNING)

MESSAGES = {
    STARTING: "not evaluated yet",
    RUNNING: "running",
    CONVERGED: "converged: no component of the gradient exceeds gradient_tolerance",
    STALLED: "stalled: the value decreases by less than change_tolerance",
    ROUNDING: "stalled by rounding: no representable step lowers the value any further; float64 may reach further",
    LINE_SEARCH_FAILED: "line search failed: no acceptable step along the negative gradient; is the gradient that of the value, "
    "and does the objective give the same result twice?",
    NON_FINITE_START: "the value or the gradient is infinite or NaN at the starting point",
    MAX_ITERATIONS: "stopped at max_iterations",
    MAX_EVALUATIONS: "stopped at max_evaluations",
}

VALUE_NOISE = 1000.0  # rounding error of a value in units of u |value|: 4e-5 |value| was seen in float32
FLAT_ITERATIONS = 3  # in a row without a decrease beyond change_tolerance
SLOPES_ONLY_ITERATIONS = 10  # after a search that failed on values
NO_LIMIT = 2**31 - 1


class Settings(NamedTuple):
    """The arguments of the method, the same at each step."""

    history_size: int = 10
    gradient_tolerance: float = 1e-5  # on the gradient's largest component
    change_tolerance: float = 1e-9  # on the relative decrease of the value; 0: never stalls
    max_line_search_steps: int = 20
    learning_rate: float = 1.0  # the first trial step of every search but the first
    max_iterations: int = NO_LIMIT
    max_evaluations: int = NO_LIMIT


class Progress(NamedTuple):
    """Numbers of the run; real ones first, whole ones last."""

    gradient_norm: Scalar  # largest component at the accepted point
    start_value: Scalar
    lowest_value: Scalar
    noise: Scalar  # by which a value contradicted the slopes at most
    status: Scalar
    collapsed: Scalar  # 1 if the trial is, component by component, an end of its bracket
    iterations: Scalar  # accepted
    evaluations: Scalar
    slot: Scalar  # of the history
    pairs: Scalar
    slopes_only: Scalar  # iterations to go without values
    flat: Scalar  # iterations since the value last decreased by more than change_tolerance


REALS = 4  # of Progress's fields


class State(NamedTuple):
    """All that the method carries from one evaluation to the next."""

    point: Sequence[Tensor]  # the accepted point x, one tensor a parameter
    gradient: Sequence[Tensor]  # there
    direction: Sequence[Tensor]  # d; trials are x + a d
    s: Sequence[Tensor]  # (m, *shape), see History
    y: Sequence[Tensor]
    products: Small  # (2, m, m)
    reals: Small  # Search's and Progress's real numbers
    counts: Small  # their whole numbers, int32


REAL_NAMES = Search._fields[: line_search.REALS] + Progress._fields[:REALS]
COUNT_NAMES = Search._fields[line_search.REALS :] + Progress._fields[REALS:]


def init(arrays: NumpyArrays, settings: Settings, parameters: Sequence[Tensor]) -> State:
    """The state before anything is evaluated; the first trial point is `parameters` themselves.

    Args:
        arrays: The operations for this kind of array.
        settings: The arguments of the method.
        parameters: One floating-point tensor a parameter. Those in half precision keep gradients and history in float32.
    """
    dtypes = [working_dtype(arrays.dtype(x)) for x in parameters]
    size = settings.history_size
    vector = tuple(arrays.zeros(x.shape, dtype) for x, dtype in zip(parameters, dtypes, strict=True))
    rings = [
        tuple(arrays.zeros((size, *x.shape), dtype) for x, dtype in zip(parameters, dtypes, strict=True))
        for _ in "sy"
    ]
    return State(
        point=tuple(parameters),
        gradient=vector,
        direction=tuple(arrays.zeros(x.shape, dtype) for x, dtype in zip(parameters, dtypes, strict=True)),
        s=rings[0],
        y=rings[1],
        products=arrays.small.zeros((2, size, size), arrays.real),
        reals=arrays.small.zeros((len(REAL_NAMES),), arrays.real),
        counts=arrays.small.zeros((len(COUNT_NAMES),), "int32"),
    )


def working_dtype(dtype: str) -> str:
    """The dtype of a parameter's gradients, direction and history: its own, but at least float32."""
    return dtype if dtype in ("float32", "float64") else "float32"


def read(state: State, name: str) -> Scalar:
    """One number of the state."""
    if name in REAL_NAMES:
        return state.reals[REAL_NAMES.index(name)]
    return state.counts[COUNT_NAMES.index(name)]


def restart(arrays: NumpyArrays, state: State) -> State:
    """The state whose next step takes its trial as the accepted point and begins a search from it, history kept."""
    search, progress = _unpack(arrays, state)
    return _pack(arrays, state, search, progress._replace(status=STARTING))


def step(
    arrays: NumpyArrays,
    settings: Settings,
    state: State,
    trial: Sequence[Tensor],
    gradient: Sequence[Tensor],
    value: Scalar | None = None,
) -> tuple[State, Sequence[Tensor]]:
    """One evaluation's worth of L-BFGS.

    Args:
        arrays: The operations for this kind of array.
        settings: The arguments of the method.
        state: From `init`, `restart` or the last `step`.
        trial: The point that the last `step` gave, or the starting point.
        gradient: The gradient there.
        value: The value there; None: trials are accepted on slopes alone. Give it at each step, or at none.

    Returns:
        The next state and the point to evaluate next: the accepted point once the run has ended.
    """
    state = state._replace(products=arrays.local(state.products))
    search, progress = _unpack(arrays, state)
    gradient = tuple(arrays.cast(g, arrays.dtype(d)) for g, d in zip(gradient, state.direction, strict=True))
    evaluated, finite, norm = _evaluate(arrays, search, state.direction, gradient, value)
    tolerance = _tolerance(arrays, search, progress, value is not None)
    active = (progress.status == STARTING) | (progress.status == RUNNING)
    verdict = _judge(settings, search, progress, evaluated, finite, tolerance, value is not None)

    history = History(state.s, state.y, state.products, progress.slot, progress.pairs)
    history, kept = _store(arrays, state, history, search.step, gradient, verdict.accepted)
    history = history._replace(pairs=arrays.select(verdict.drops_history, 0, history.pairs))
    change = tuple(g - old for g, old in zip(gradient, state.gradient, strict=True))
    point, gradient = (
        tuple(arrays.select(verdict.moved, new, old) for new, old in zip(news, olds, strict=True))
        for news, olds in ((trial, state.point), (gradient, state.gradient))
    )
    products, direction, slope, pairs = arrays.cond(
        verdict.moved | verdict.drops_history,
        lambda: _redirect(arrays, history, kept, change, gradient),
        lambda: (state.products, state.direction, search.slope, history.pairs),
    )

    progress = _progress(arrays, settings, search, progress, verdict, evaluated, finite, norm)
    progress = progress._replace(slot=history.slot, pairs=pairs)
    first_step = arrays.select(pairs > 0, float(settings.learning_rate), 1.0)
    value = arrays.select(verdict.moved, evaluated.value, search.value)
    following = _choose(
        arrays,
        verdict.moved | verdict.drops_history | verdict.drops_values,
        line_search.begin(first_step + 0 * slope, value, slope),
        line_search.advance(arrays, search, evaluated, finite, tolerance),
    )
    search = _choose(arrays, active, following, search)
    trial, collapsed = _along(arrays, point, direction, search, progress.status == RUNNING)
    progress = progress._replace(collapsed=collapsed)
    state = state._replace(
        point=point, gradient=gradient, direction=direction, s=history.s, y=history.y, products=products
    )
    return _pack(arrays, state, search, progress), trial


class Verdict(NamedTuple):
    """What an evaluation means for the run; at most one of the last four holds."""

    accepted: Scalar  # the trial ends its search
    moved: Scalar  # the trial becomes the accepted point: accepted, or the start of a run
    drops_values: Scalar  # the search failed: once more, on slopes alone
    drops_history: Scalar  # that failed too: along the negative gradient
    lost: Scalar  # and that


def _evaluate(
    arrays: NumpyArrays,
    search: Search,
    direction: Sequence[Tensor],
    gradient: Sequence[Tensor],
    value: Scalar | None,
) -> tuple[Point, Scalar, Scalar]:
    """The trial as a point of its search, whether it is finite, and the largest component of its gradient."""
    found = [dot(arrays, gradient, direction), largest(arrays, gradient)]
    slope, norm, value = arrays.scalars([*found, 0 * found[0] if value is None else value])
    finite = arrays.isfinite(slope) & arrays.isfinite(norm) & arrays.isfinite(value)
    return Point(search.step, value, slope), finite, norm


def _tolerance(arrays: NumpyArrays, search: Search, progress: Progress, with_values: bool) -> Tolerance:
    """What to make of values; no point above the run's first is accepted, so that no run ends worse than it began."""
    noise = arrays.small.maximum(VALUE_NOISE * arrays.unit_roundoff * abs(search.value), progress.noise)
    if not with_values:
        return Tolerance(search.value + float("inf"), noise)
    near = arrays.small.minimum(progress.start_value, search.value + noise)
    return Tolerance(arrays.select(progress.slopes_only > 0, progress.start_value, near), noise)


def _judge(
    settings: Settings,
    search: Search,
    progress: Progress,
    trial: Point,
    finite: Scalar,
    tolerance: Tolerance,
    with_values: bool,
) -> Verdict:
    """What the trial means for the run."""
    running = progress.status == RUNNING
    accepted = running & line_search.accepts(search, trial, finite, tolerance)
    exhausted = (search.trials + 1 >= settings.max_line_search_steps) | (progress.collapsed == 1)
    failed = running & exhausted & ~accepted
    has_values = (progress.slopes_only == 0) & with_values
    has_history = progress.pairs > 0
    return Verdict(
        accepted=accepted,
        moved=accepted | ((progress.status == STARTING) & finite),
        drops_values=failed & has_values,
        drops_history=failed & ~has_values & has_history,
        lost=failed & ~has_values & ~has_history,
    )


def _store(
    arrays: NumpyArrays,
    state: State,
    history: History,
    step: Scalar,
    gradient: Sequence[Tensor],
    accepted: Scalar,
) -> tuple[History, Scalar]:
    """The history with s = a d and y = g' - g."""
    s = tuple(arrays.scale(step, d) for d in state.direction)
    y = tuple(g - old for g, old in zip(gradient, state.gradient, strict=True))
    return pairs_of.store(arrays, history, s, y, accepted)


def _redirect(
    arrays: NumpyArrays, history: History, kept: Scalar, change: Sequence[Tensor], gradient: Sequence[Tensor]
) -> tuple[Small, Sequence[Tensor], Scalar, Scalar]:
    """The products, the direction -H g (or -g / |g|_2 where that does not descend), its slope, the number of pairs."""
    products = arrays.small.where(kept, pairs_of.with_newest(arrays, history, change), history.products)
    direction = tuple(-x for x in pairs_of.multiply(arrays, history._replace(products=products), gradient))
    slope = arrays.scalars([dot(arrays, gradient, direction)])[0]
    descends = (slope < 0) & arrays.isfinite(slope) & (history.pairs > 0)
    direction, slope, pairs = arrays.cond(
        descends,
        lambda: (direction, slope, history.pairs),
        lambda: (*_steepest(arrays, gradient), 0 * history.pairs),
    )
    return products, direction, slope, pairs


def _steepest(arrays: NumpyArrays, gradient: Sequence[Tensor]) -> tuple[Sequence[Tensor], Scalar]:
    """-g / |g|_2 and its slope -|g|_2, with no square that overflows."""
    norm = arrays.scalars([largest(arrays, gradient)])[0]
    scaled = tuple(arrays.scale(-1 / norm, g) for g in gradient)
    length = arrays.small.sqrt(arrays.scalars([dot(arrays, scaled, scaled)])[0])
    return tuple(arrays.scale(1 / length, g) for g in scaled), -norm * length


def _progress(
    arrays: NumpyArrays,
    settings: Settings,
    search: Search,
    progress: Progress,
    verdict: Verdict,
    trial: Point,
    finite: Scalar,
    norm: Scalar,
) -> Progress:
    """The numbers of the run after the evaluation, its status included."""
    select = arrays.select
    starting = progress.status == STARTING
    active = starting | (progress.status == RUNNING)
    small_change = progress.lowest_value - trial.value <= settings.change_tolerance * abs(trial.value)
    flat = select(verdict.accepted & small_change, progress.flat + 1, select(verdict.moved, 0, progress.flat))
    lowest = arrays.small.minimum(progress.lowest_value, trial.value)
    steepest = arrays.small.maximum(abs(search.slope), abs(trial.slope))
    excess = abs(trial.value - search.value) - search.step * steepest
    slopes_only = progress.slopes_only - select(verdict.accepted & (progress.slopes_only > 0), 1, 0)
    updated = progress._replace(
        gradient_norm=select(verdict.moved, norm, progress.gradient_norm),
        start_value=select(starting, trial.value, progress.start_value),
        lowest_value=select(starting, trial.value, select(verdict.accepted, lowest, progress.lowest_value)),
        iterations=progress.iterations + select(verdict.accepted, 1, 0),
        evaluations=progress.evaluations + select(active, 1, 0),
        slopes_only=select(verdict.drops_values, SLOPES_ONLY_ITERATIONS, slopes_only),
        flat=flat,
        noise=select(
            starting,
            0.0 * norm,
            select(
                verdict.drops_values & finite, arrays.small.maximum(excess, progress.noise), progress.noise
            ),
        ),
    )
    return updated._replace(status=_status(arrays, settings, progress, updated, verdict, finite))


def _status(
    arrays: NumpyArrays, settings: Settings, before: Progress, now: Progress, verdict: Verdict, finite: Scalar
) -> Scalar:
    """The status after an evaluation; of several that apply, the last line's."""
    select = arrays.select
    starting = before.status == STARTING
    status = select(starting, select(finite, RUNNING, NON_FINITE_START), before.status)
    running = status == RUNNING
    status = select(running & (now.evaluations >= settings.max_evaluations), MAX_EVALUATIONS, status)
    status = select(running & (now.iterations >= settings.max_iterations), MAX_ITERATIONS, status)
    stalled = verdict.accepted & (now.flat >= FLAT_ITERATIONS) & (settings.change_tolerance > 0)
    status = select(stalled, STALLED, status)
    status = select(verdict.lost, select(before.collapsed == 1, ROUNDING, LINE_SEARCH_FAILED), status)
    return select(verdict.moved & (now.gradient_norm <= settings.gradient_tolerance), CONVERGED, status)


def _choose(arrays: NumpyArrays, condition: Scalar, yes: Search, no: Search) -> Search:
    """One of two searches."""
    return Search(*(arrays.select(condition, a, b) for a, b in zip(yes, no, strict=True)))


def _along(
    arrays: NumpyArrays, point: Sequence[Tensor], direction: Sequence[Tensor], search: Search, running: Scalar
) -> tuple[Sequence[Tensor], Scalar]:
    """The next trial, x + a d, or x if the run has ended; and 1 if the trial is an end of its bracket already."""
    trial, left, right = (
        [arrays.cast(x + arrays.scale(a, d), arrays.dtype(x)) for x, d in zip(point, direction, strict=True)]
        for a in (search.step, search.left, search.right)
    )
    apart = [sum(arrays.differ(a, b) for a, b in zip(trial, end, strict=True)) for end in (left, right)]
    at_left, at_right = arrays.scalars(apart)
    collapsed = arrays.select((at_left == 0) | (at_right == 0), 1, 0)
    return tuple(arrays.select(running, t, x) for t, x in zip(trial, point, strict=True)), collapsed


def _unpack(arrays: NumpyArrays, state: State) -> tuple[Search, Progress]:
    """The state's numbers by name."""
    reals = arrays.unpack(state.reals, len(REAL_NAMES))
    counts = arrays.unpack(state.counts, len(COUNT_NAMES))
    mine, whole = line_search.REALS, len(Search._fields) - line_search.REALS
    return Search(*reals[:mine], *counts[:whole]), Progress(*reals[mine:], *counts[whole:])


def _pack(arrays: NumpyArrays, state: State, search: Search, progress: Progress) -> State:
    """The state with new numbers."""
    mine = line_search.REALS
    return state._replace(
        reals=arrays.pack(search[:mine] + progress[:REALS], arrays.real),
        counts=arrays.pack(search[mine:] + progress[REALS:], "int32"),
    )
