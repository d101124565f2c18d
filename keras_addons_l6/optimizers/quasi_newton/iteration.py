"""A quasi-Newton method as a pure function of its state: `init`, then one `step` for each evaluation of the objective.

How to drive it:

    arrays = arrays_for(parameters)                  # backends/portable/arrays.py
    state = init(arrays, settings, parameters)       # evaluates nothing
    trial = parameters
    while read(state, "status") in ACTIVE:           # steps after the end change nothing
        value, gradient = objective(trial)
        with arrays.scope():
            state, trial = step(arrays, settings, state, trial, gradient, value)  # value=None: slopes alone
    trial                                            # the accepted point, which is state.point too

`State` is a flat NamedTuple of arrays (tuples of them, one a parameter) whose shapes and dtypes never change: it can
be the carry of a compiled loop, or be kept in variables and taken up again bit for bit in the middle of a search.
`point` and the trial have the parameters' dtypes; gradient, direction, s and y at least float32. `products`, `reals`
and `counts` are NumPy arrays on torch, but `step` and `restart` take them as tensors too.

`read(state, name)` gives a number of the state: value, gradient_norm, status, iterations, evaluations and the other
fields of `Progress` and `Search`. `restart(arrays, state)` makes the next step begin afresh, at whatever point it is
given, with the pairs kept. `MESSAGES[status]` says a status in words.

Nothing here depends on the scale of the objective: multiplied by a power of two (with its tolerance likewise), it gives
the same points bit for bit, short of overflow.
"""

import functools
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, get_type_hints

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import Count, NumpyArrays, Real, Scalar, Small
from keras_addons_l6.optimizers.quasi_newton import line_search
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature, Pair, Tally
from keras_addons_l6.optimizers.quasi_newton.line_search import Point, Search, Tolerance
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory
from keras_addons_l6.optimizers.quasi_newton.vectors import dot, largest, working_dtype

__all__ = [
    "ACTIVE",
    "CONVERGED",
    "COUNT_NAMES",
    "FAR",
    "FLAT_ITERATIONS",
    "LINE_SEARCH_FAILED",
    "MAX_EVALUATIONS",
    "MAX_ITERATIONS",
    "MESSAGES",
    "NON_FINITE_START",
    "NO_LIMIT",
    "REAL_NAMES",
    "ROUNDING",
    "RUNNING",
    "SLOPES_ONLY_ITERATIONS",
    "STALLED",
    "STARTING",
    "STOPPED_BY_CALLBACK",
    "UNBOUNDED",
    "VALUE_NOISE",
    "VECTORS",
    "Evaluation",
    "Progress",
    "Settings",
    "State",
    "Vectors",
    "Verdict",
    "fields_of",
    "forgotten",
    "given_back",
    "init",
    "read",
    "restart",
    "step",
    "step_on_views",
    "viewed",
]

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
    UNBOUNDED,
) = range(10)  # saved states hold them: new ones come last
ACTIVE = (STARTING, RUNNING)

MESSAGES = {
    STARTING: "not evaluated yet",
    RUNNING: "running",
    CONVERGED: "converged: no component of the gradient exceeds gradient_tolerance",
    STALLED: "stalled: ten iterations in a row lowered the value by less than change_tolerance of itself",
    ROUNDING: "stalled by rounding: no step that the dtype can represent improves the point; float64 reaches further "
    "than float32",
    LINE_SEARCH_FAILED: "line search failed: no step along the negative gradient was acceptable; is the gradient that of "
    "the value, and does the objective give the same result twice?",
    NON_FINITE_START: "the value or the gradient is infinite or NaN at the starting point",
    MAX_ITERATIONS: "stopped at max_iterations",
    MAX_EVALUATIONS: "stopped at max_evaluations",
    UNBOUNDED: "unbounded: along the search direction the value falls as far as it was followed",
}

STOPPED_BY_CALLBACK = "stopped by a callback"  # a run's end that the state knows nothing of

VALUE_NOISE = (
    1000.0  # rounding error of a value in units of u |value|: 4e-5 |value| is seen in float32 losses
)
FLAT_ITERATIONS = (
    10  # without a decrease beyond change_tolerance: a stall; three stop float32 runs that yet converge
)
SLOPES_ONLY_ITERATIONS = 10  # after a search that failed on values
FAR = 1000.0  # first steps' worth of the first slope: a value that has fallen by more, and falls, is taken for unbounded
NO_LIMIT = 2**31 - 1


class Settings(NamedTuple):
    """The arguments of the method."""

    curvature: Curvature = LimitedMemory()
    gradient_tolerance: float = 1e-5  # on the gradient's largest component
    change_tolerance: float = 1e-9  # on the relative decrease of the value; 0: never stalls
    max_line_search_steps: int = 20
    learning_rate: float = 1.0  # the first trial step of a search but the first, or what multiplies it
    max_iterations: int = NO_LIMIT
    max_evaluations: int = NO_LIMIT


class Progress(NamedTuple):
    """Numbers of the run, beside those of the search."""

    gradient_norm: Real  # largest component at the accepted point
    start_value: Real
    lowest_value: Real  # among accepted points
    noise: Real  # the most by which a failed search's value contradicted its slopes
    gamma: Real  # of the tally
    status: Count
    collapsed: Count  # 1 if the trial is, component by component, an end of its bracket
    iterations: Count  # accepted
    evaluations: Count
    newest: Count  # of the tally
    pairs: Count
    slopes_only: Count  # iterations yet to be accepted on slopes alone
    flat: Count  # iterations since the lowest value last fell by more than change_tolerance


Vectors = Annotated[Sequence[Tensor], "like the parameters"]


class State(NamedTuple):
    """All that the method carries from one evaluation to the next."""

    point: Vectors  # the accepted point x, one tensor a parameter
    gradient: Vectors  # there
    direction: Vectors  # d; trials are x + a d
    memory: Any  # what the settings' curvature keeps
    reals: Small  # Search's and Progress's real numbers
    counts: Small  # their whole numbers, int32


def fields_of(record: type, kind: Any) -> tuple[str, ...]:
    """The names of a record's fields that are annotated as this kind, in their order."""
    return tuple(name for name, hint in get_type_hints(record, include_extras=True).items() if hint == kind)


VECTORS = fields_of(State, Vectors)
REAL_NAMES = fields_of(Search, Real) + fields_of(Progress, Real)
COUNT_NAMES = fields_of(Search, Count) + fields_of(Progress, Count)


def init(arrays: NumpyArrays, settings: Settings, parameters: Sequence[Tensor]) -> State:
    """The state before anything is evaluated; the first trial point is `parameters` themselves.

    Args:
        arrays: The operations for this kind of array.
        settings: The arguments of the method.
        parameters: One floating-point tensor a parameter; half precision keeps its gradients and pairs in float32.
    """

    def beside() -> Sequence[Tensor]:
        return tuple(arrays.tensor(arrays.zeros(x.shape, working_dtype(arrays.dtype(x)))) for x in parameters)

    return State(
        point=tuple(parameters),
        gradient=beside(),
        direction=beside(),
        memory=settings.curvature.init(arrays, parameters),
        reals=arrays.small.zeros((len(REAL_NAMES),), arrays.real),
        counts=arrays.small.zeros((len(COUNT_NAMES),), "int32"),
    )


def read(state: State, name: str) -> Scalar:
    """One number of the state."""
    if name in REAL_NAMES:
        return state.reals[REAL_NAMES.index(name)]
    return state.counts[COUNT_NAMES.index(name)]


def restart(arrays: NumpyArrays, state: State) -> State:
    """The state whose next step takes its trial as the accepted point and begins a search there, the pairs kept."""
    search, progress = _unpack(arrays, state)
    return _packed(arrays, _pack(arrays, state, search, progress._replace(status=STARTING)))


def forgotten(arrays: NumpyArrays, state: State) -> State:
    """The state without any pair, from whose next step the curvature starts afresh."""
    search, progress = _unpack(arrays, state)
    return _packed(arrays, _pack(arrays, state, search, progress._replace(pairs=0 * progress.pairs)))


def step(
    arrays: NumpyArrays,
    settings: Settings,
    state: State,
    trial: Sequence[Tensor],
    gradient: Sequence[Tensor],
    value: Scalar | None = None,
) -> tuple[State, Sequence[Tensor]]:
    """One evaluation's worth of the method; call it in `arrays.scope()`.

    Args:
        arrays: The operations for this kind of array.
        settings: The arguments of the method.
        state: From `init`, `restart` or the last `step`. On torch its large arrays are written in place.
        trial: The point that the last `step` gave, or the starting point.
        gradient: The gradient there.
        value: The value there, at each step or at none. None: trials are accepted on slopes alone.

    Returns:
        The next state and the point to evaluate next: the accepted point once the run has ended.
    """
    views = viewed(arrays, settings, state), tuple(map(arrays.view, trial)), tuple(map(arrays.view, gradient))
    after, trial = step_on_views(arrays, settings, *views, value)
    return given_back(arrays, settings, state, after), tuple(map(arrays.tensor, trial))


def step_on_views(
    arrays: NumpyArrays,
    settings: Settings,
    state: State,
    trial: Sequence[Tensor],
    gradient: Sequence[Tensor],
    value: Scalar | None = None,
) -> tuple[State, Sequence[Tensor]]:
    """`step` on tensors and numbers as `viewed` gives them: in a loop they stay so from step to step."""
    if value is None:
        settings = settings._replace(change_tolerance=0.0)  # no values, no change of them
    gradient = tuple(map(arrays.cast_like, gradient, state.direction))
    search, progress = _unpack(arrays, state)
    active = (progress.status == STARTING) | (progress.status == RUNNING)
    evaluation = _evaluate(arrays, search, state.direction, gradient, value)
    tolerance = _tolerance(arrays, search, progress, value is not None)
    # In a branch: XLA may compute what several operations read once for each, rounded in another way, and a trial
    # at the edge would be accepted by the pairs and not by the search. What a branch gives is computed once.
    evaluation, tolerance, verdict = arrays.cond(
        active,
        lambda: (
            evaluation,
            tolerance,
            _judge(arrays, settings, search, progress, evaluation, tolerance, value is not None),
        ),
        lambda: _nothing_new(search, progress, active),
    )

    state, slope, tally = _move(arrays, settings, state, search, progress, verdict, trial, gradient)
    first_step = _first_step(arrays, settings, tally.pairs)
    if settings.curvature.self_scaled:
        fallen = evaluation.point.value - search.value
        expected = line_search.expected_step(arrays, fallen, slope)
        tells = verdict.accepted & (tally.pairs > 0) & (-fallen > tolerance.noise)  # not so without values
        first_step = arrays.select(tells, first_step * expected, first_step)
    value = arrays.select(verdict.moved, evaluation.point.value, search.value)
    anew = verdict.moved | verdict.drops_history | verdict.drops_values
    following = arrays.either(
        anew,
        lambda: line_search.begin(first_step, value, slope),
        lambda: line_search.advance(arrays, search, evaluation.point, evaluation.finite, tolerance),
    )
    progress = _progress(arrays, settings, search, progress, verdict, evaluation)
    progress = progress._replace(newest=tally.newest, pairs=tally.pairs, gamma=tally.gamma)
    search = Search(*arrays.either(active, lambda: following, lambda: search))
    trial, collapsed = _next_trial(arrays, state, search, progress.status == RUNNING)
    return _pack(arrays, state, search, progress._replace(collapsed=collapsed)), trial


def _first_step(arrays: NumpyArrays, settings: Settings, pairs: Scalar) -> Scalar:
    """A search's first trial step; a direction without pairs has length one."""
    return arrays.select(pairs > 0, float(settings.learning_rate), 1.0)


class Evaluation(NamedTuple):
    """What was found at the trial."""

    point: Point
    finite: Scalar  # value and gradient are
    gradient_norm: Scalar


class Verdict(NamedTuple):
    """What an evaluation means for the run; at most one of the last five holds."""

    accepted: Scalar  # the trial ends its search
    moved: Scalar  # the trial becomes the accepted point: accepted, or the start of a run
    drops_values: Scalar  # the search failed: once more, on slopes alone
    drops_history: Scalar  # that failed too: along the negative gradient
    lost: Scalar  # and that
    unbounded: Scalar  # the search failed because the value falls for ever


def _evaluate(
    arrays: NumpyArrays,
    search: Search,
    direction: Sequence[Tensor],
    gradient: Sequence[Tensor],
    value: Scalar | None,
) -> Evaluation:
    """The trial's value and slope, and the largest component of its gradient."""
    found = [dot(arrays, gradient, direction), largest(arrays, gradient)]
    slope, norm, value = arrays.scalars([*found, found[0] * 0 if value is None else value])
    finite = arrays.isfinite(slope) & arrays.isfinite(norm) & arrays.isfinite(value)
    return Evaluation(Point(search.step, value, slope), finite, norm)


def _tolerance(arrays: NumpyArrays, search: Search, progress: Progress, with_values: bool) -> Tolerance:
    """What to make of values. No point above the run's first is accepted: no run ends worse than it began."""
    rounding = VALUE_NOISE * arrays.unit_roundoff * abs(search.value)
    noise = arrays.larger(rounding, progress.noise)
    if not with_values:
        return Tolerance(search.value + float("inf"), noise)
    near = arrays.smaller(progress.start_value, search.value + noise)
    return Tolerance(arrays.select(progress.slopes_only > 0, progress.start_value, near), noise)


def _judge(
    arrays: NumpyArrays,
    settings: Settings,
    search: Search,
    progress: Progress,
    evaluation: Evaluation,
    tolerance: Tolerance,
    with_values: bool,
) -> Verdict:
    """What the trial means for the run."""
    running = progress.status == RUNNING
    accepted = running & line_search.accepts(
        search, evaluation.point, evaluation.finite, tolerance, settings.curvature.sigma
    )
    exhausted = (search.trials + 1 >= settings.max_line_search_steps) | (progress.collapsed == 1)
    first_step = _first_step(arrays, settings, progress.pairs)
    endless = running & exhausted & ~accepted & _falls_for_ever(search, first_step, evaluation, tolerance)
    failed = running & exhausted & ~accepted & ~endless
    has_values = (progress.slopes_only == 0) & with_values
    has_history = progress.pairs > 0
    return Verdict(
        accepted=accepted,
        moved=accepted | ((progress.status == STARTING) & evaluation.finite),
        drops_values=failed & has_values,
        drops_history=failed & ~has_values & has_history,
        lost=failed & ~has_values & ~has_history,
        unbounded=endless,
    )


def _nothing_new(search: Search, progress: Progress, active: Scalar) -> tuple[Evaluation, Tolerance, Verdict]:
    """The accepted point in the trial's place and no verdict, where the run is not active but has ended."""
    known = Evaluation(Point(search.step, search.value, search.slope), active, progress.gradient_norm)
    return known, Tolerance(search.value, progress.noise), Verdict(*[active] * len(Verdict._fields))


def _falls_for_ever(
    search: Search, first_step: Scalar, evaluation: Evaluation, tolerance: Tolerance
) -> Scalar:
    """Whether the value has fallen far along the direction, and nothing finite has been found beyond."""
    trial = evaluation.point
    descends = evaluation.finite & (trial.slope < 0) & (trial.value <= tolerance.limit)
    deep = search.value - tolerance.noise + FAR * first_step * search.slope
    has_fallen = (search.left_value < deep) | (descends & (trial.value < deep))
    nothing_beyond = (search.right == float("inf")) | (search.right_slope != search.right_slope)
    return has_fallen & ((descends & nothing_beyond) | ~evaluation.finite)


def _move(
    arrays: NumpyArrays,
    settings: Settings,
    state: State,
    search: Search,
    progress: Progress,
    verdict: Verdict,
    trial: Sequence[Tensor],
    gradient: Sequence[Tensor],
) -> tuple[State, Scalar, Tally]:
    """The state with the accepted point, the curvature and the direction after the verdict; phi'(0); the tally."""
    curvature = settings.curvature
    pair = Pair(
        s=tuple(arrays.scale(search.step, d) for d in state.direction),
        y=tuple(g - old for g, old in zip(gradient, state.gradient, strict=True)),
        sbs=-search.step * search.step * search.slope,
    )
    moved = verdict.moved
    point = tuple(arrays.select(moved, new, old) for new, old in zip(trial, state.point, strict=True))
    gradient = tuple(
        arrays.select(moved, new, old) for new, old in zip(gradient, state.gradient, strict=True)
    )
    tally = Tally(progress.gamma, progress.newest, progress.pairs)
    memory, tally, found = curvature.store(
        arrays, state.memory, tally, pair, gradient, verdict.accepted, moved
    )
    before = tally._replace(pairs=arrays.select(verdict.drops_history, 0, tally.pairs))
    changed, direction, slope, pairs = arrays.cond(
        moved | verdict.drops_history,
        lambda: _redirect(arrays, curvature, memory, before, found, pair, gradient),
        lambda: (_changing(curvature, memory), state.direction, search.slope, before.pairs),
    )
    memory = curvature.after_loss(arrays, memory._replace(**changed), (pairs == 0) & (tally.pairs > 0))
    state = state._replace(point=point, gradient=gradient, direction=direction, memory=memory)
    return state, slope, before._replace(pairs=pairs)


def _changing(curvature: Curvature, memory: Any) -> dict[str, Any]:
    return {name: getattr(memory, name) for name in curvature.changing}


def _redirect(
    arrays: NumpyArrays,
    curvature: Curvature,
    memory: Any,
    tally: Tally,
    found: Any,
    pair: Pair,
    gradient: Sequence[Tensor],
) -> tuple[dict[str, Any], Sequence[Tensor], Scalar, Scalar]:
    """The memory's small fields, the direction, its slope g'd and the number of pairs: none where -H g is no descent."""
    changed, direction = curvature.redirect(arrays, memory, tally, found, pair, gradient)
    slope = arrays.scalars([dot(arrays, gradient, direction)])[0]
    descends = (slope < 0) & arrays.isfinite(slope) & (tally.pairs > 0)
    direction, slope, pairs = arrays.cond(
        descends,
        lambda: (direction, slope, tally.pairs),
        lambda: (*_steepest(arrays, gradient), tally.pairs * 0),
    )
    return changed, direction, slope, pairs


def _steepest(arrays: NumpyArrays, gradient: Sequence[Tensor]) -> tuple[Sequence[Tensor], Scalar]:
    """-g / |g|_2 and its slope -|g|_2, by no square that overflows."""
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
    evaluation: Evaluation,
) -> Progress:
    """The numbers of the run after the evaluation, its status included."""
    select, value = arrays.select, evaluation.point.value
    starting = progress.status == STARTING
    lowest = arrays.smaller(progress.lowest_value, value)
    unchanged = progress.lowest_value - value <= settings.change_tolerance * abs(value)
    slopes_only = progress.slopes_only - select(verdict.accepted & (progress.slopes_only > 0), 1, 0)
    noise = select(verdict.drops_values, _noise(arrays, search, progress, evaluation), progress.noise)
    updated = progress._replace(
        gradient_norm=select(verdict.moved, evaluation.gradient_norm, progress.gradient_norm),
        start_value=select(starting, value, progress.start_value),
        lowest_value=select(starting, value, select(verdict.accepted, lowest, progress.lowest_value)),
        noise=select(starting, 0.0, noise),
        iterations=progress.iterations + select(verdict.accepted, 1, 0),
        evaluations=progress.evaluations + select(starting | (progress.status == RUNNING), 1, 0),
        slopes_only=select(verdict.drops_values, SLOPES_ONLY_ITERATIONS, select(starting, 0, slopes_only)),
        flat=select(verdict.accepted & unchanged, progress.flat + 1, select(verdict.moved, 0, progress.flat)),
    )
    return updated._replace(status=_status(arrays, settings, progress, updated, verdict, evaluation.finite))


def _noise(arrays: NumpyArrays, search: Search, progress: Progress, evaluation: Evaluation) -> Scalar:
    """The noise of values, after a failed search whose last value is farther from phi(0) than its slopes allow."""
    trial = evaluation.point
    steepest = arrays.small.maximum(abs(search.slope), abs(trial.slope))
    excess = abs(trial.value - search.value) - trial.step * steepest
    return arrays.select(evaluation.finite & (excess > progress.noise), excess, progress.noise)


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
    status = select(verdict.unbounded, UNBOUNDED, status)
    status = select(verdict.lost, select(before.collapsed == 1, ROUNDING, LINE_SEARCH_FAILED), status)
    return select(verdict.moved & (now.gradient_norm <= settings.gradient_tolerance), CONVERGED, status)


def _next_trial(
    arrays: NumpyArrays, state: State, search: Search, running: Scalar
) -> tuple[Sequence[Tensor], Scalar]:
    """The next trial x + a d, or x if the run has ended; 1 if the trial is an end of its bracket already, else 0."""

    def along(step: Scalar) -> Sequence[Tensor]:
        ahead = zip(state.point, state.direction, strict=True)
        return tuple(arrays.cast_like(arrays.cast_like(x, d) + arrays.scale(step, d), x) for x, d in ahead)

    trial = along(search.step)
    collapsed = arrays.cond(
        search.trials > 0,
        lambda: _is_either(arrays, trial, along(search.left), along(search.right)),
        lambda: 0 * search.trials,
    )
    return tuple(arrays.select(running, new, x) for new, x in zip(trial, state.point, strict=True)), collapsed


def _is_either(
    arrays: NumpyArrays, trial: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor]
) -> Scalar:
    """1 if the trial is the left or the right end, component by component, else 0."""
    from_left, from_right = arrays.scalars(
        [
            functools.reduce(arrays.maximum, (arrays.differ(a, b) for a, b in zip(trial, end, strict=True)))
            for end in (left, right)
        ]
    )
    return arrays.select((from_left == 0) | (from_right == 0), 1, 0)


def viewed(arrays: NumpyArrays, settings: Settings, state: State) -> State:
    """A state of the caller's as the operations take it."""
    return state._replace(
        **{name: tuple(map(arrays.view, getattr(state, name))) for name in VECTORS},
        memory=settings.curvature.viewed(arrays, state.memory),
        reals=arrays.local(state.reals),
        counts=arrays.local(state.counts),
    )


def given_back(arrays: NumpyArrays, settings: Settings, given: State, state: State) -> State:
    """The next state as the caller takes it."""
    return _packed(arrays, state)._replace(
        **{
            name: tuple(map(arrays.given_back, getattr(given, name), getattr(state, name)))
            for name in VECTORS
        },
        memory=settings.curvature.given_back(arrays, given.memory, state.memory),
    )


def _packed(arrays: NumpyArrays, state: State) -> State:
    """The state with its numbers as vectors, as a caller keeps them."""
    return state._replace(
        reals=arrays.packed(state.reals, arrays.real), counts=arrays.packed(state.counts, "int32")
    )


def _unpack(arrays: NumpyArrays, state: State) -> tuple[Search, Progress]:
    """The state's numbers by name."""
    reals = arrays.unpack(state.reals, len(REAL_NAMES))
    counts = arrays.unpack(state.counts, len(COUNT_NAMES))
    numbers = dict(zip(REAL_NAMES + COUNT_NAMES, (*reals, *counts), strict=True))
    search, progress = ({name: numbers[name] for name in record._fields} for record in (Search, Progress))
    return Search(**search), Progress(**progress)


def _pack(arrays: NumpyArrays, state: State, search: Search, progress: Progress) -> State:
    """The state with new numbers."""
    numbers = search._asdict() | progress._asdict()
    return state._replace(
        reals=arrays.row([numbers[name] for name in REAL_NAMES], arrays.real),
        counts=arrays.row([numbers[name] for name in COUNT_NAMES], "int32"),
    )
