"""What the page of benchmarks says first: a few kinds of work in a table, and where something else is faster."""

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.benchmarks.results import BACKENDS, Results
from tests.benchmarks.rows import KERAS, OURS, Row

MODES = {"jax": "jit", "tensorflow": "XLA", "torch": "eager"}  # of the summary
NOISE = 1.05  # ratios up to here are noise
TELLING = 1.1  # and past this they are none; see the page
COMPARED = ("optimizers", "layers", "large_layers", "train_steps")
FAILS = "†"
SHORT = {
    "torch.optim fused": "torch.optim",
    "torch.optim foreach": "torch.optim",
    "torch.nn.functional": "torch.nn",
    "jax.numpy, two-pass": "jax.numpy",
    "fused_batch_norm": "tf.nn",
    "ResourceApply": "raw op",
}


class Work(NamedTuple):
    """A row of the summary: in words, and where it is among the measured rows."""

    words: str
    part: str
    begins: str  # what is measured, up to where the backends differ
    ends: str = ""
    label: str = ""  # in the figure, which shows those that have one
    told: bool = False  # in a sentence, too


def _step(name: str, words: str, label: str = "") -> Work:
    return Work(
        f"{words} over ResNet-50's 25.6 million weights", "optimizers", f"{name}, ResNet-50,", label=label
    )


def _layer(name: str, words: str, shape: str = "(16,56,56,64)", label: str = "") -> Work:
    return Work(words, "layers", f"{name}, {shape},", ", forward+backward", label)


IMAGES = "16 images of 56 x 56 with 64 channels, forward and backward"
WORKS = (
    _step("Adam", "An Adam step", "Adam,\nResNet-50")._replace(told=True),
    _step("AdamW", "An AdamW step", "AdamW,\nResNet-50"),
    _step("Nesterov", "A Nesterov step"),
    _step("AdaGrad", "An AdaGrad step"),
    _step("RMSProp", "An RMSProp step"),
    _layer("BatchNorm", f"BatchNorm of {IMAGES}", label="BatchNorm")._replace(told=True),
    _layer("GroupNorm", "GroupNorm of the same", label="GroupNorm"),
    _layer("InstanceNorm", "InstanceNorm of the same"),
    _layer(
        "LayerNorm",
        "LayerNorm of 8 texts of 1,024 tokens of 1,024 numbers, forward and backward",
        "(8,1024,1024)",
        "LayerNorm",
    ),
    _layer("PReLU", "PReLU of the images"),
    _layer("SELU", "SELU of the images"),
    _layer("Swish", "Swish of the images"),
    Work("A train step in `fit`: ResNet-50 on two small images, Adam", "train_steps", "Adam, ResNet-50"),
    Work(
        "A train step in `fit`: a transformer of 4 layers, LayerNorm and AdamW",
        "train_steps",
        "AdamW and LayerNorm, small transformer",
        label="train step,\ntransformer",
        told=True,
    ),
)


def find(results: Results, backend: str, work: Work) -> Row:
    """The measured row of a backend's mode.

    Raises:
        LookupError: where there is none, or more than one, with the command that measures it.
    """
    rows = results[backend].parts.get(work.part, []) if backend in results else []
    found = [
        row
        for row in rows
        if row.subject.startswith(work.begins)
        and row.subject.endswith(work.ends)
        and row.mode == MODES[backend]
    ]
    if len(found) != 1:
        raise LookupError(
            f"The summary wants one row that begins with {work.begins!r} of {backend}'s part {work.part!r}, and there are "
            f"{len(found)}: measure it with `python -m tests.benchmarks {backend}`."
        )
    return found[0]


def sentences(results: Results) -> str:
    """A few of the numbers in words."""
    return "\n".join(f"* {_sentence(results, work)}" for work in WORKS if work.told)


def _sentence(results: Results, work: Work) -> str:
    told = []
    for backend in results:
        row = find(results, backend, work)
        times = [f"{SHORT.get(peer, peer)} {milliseconds(row.seconds[peer])}" for peer in row.seconds]
        failing = [SHORT.get(peer, peer) for peer in row.errors]
        inaccurate = f" (inaccurate: {' and '.join(failing)})" if failing else ""
        told.append(f"on {BACKENDS[backend]} {', '.join(times)}{inaccurate}")
    return f"{work.words}, in milliseconds: {'; '.join(told)}."


def table(results: Results) -> str:
    """Milliseconds of each work on each backend; what fails the accuracy test is marked."""
    lines = ["| milliseconds | " + " | ".join(BACKENDS.values()) + " |", "|---|" + "---|" * len(BACKENDS)]
    for work in WORKS:
        cells = [_cell(find(results, backend, work)) for backend in BACKENDS]
        lines.append(f"| {work.words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return "<br>".join(_contender(row, peer) for peer in row.seconds)


def _contender(row: Row, peer: str) -> str:
    number = milliseconds(row.seconds[peer])
    number = (
        f"{number} {FAILS}" if peer in row.errors else f"**{number}**" if peer in fastest(row) else number
    )
    return number if peer == OURS else f"{SHORT.get(peer, peer)} {number}"


def fastest(row: Row) -> set[str]:
    """Who passes the accuracy test and takes at most `NOISE` of the shortest time of those that do."""
    best = row.fastest()
    return {
        peer
        for peer, seconds in row.seconds.items()
        if best and peer not in row.errors and seconds <= NOISE * row.seconds[best]
    }


def milliseconds(seconds: float) -> str:
    """With as many digits as mean something to a reader."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def measured_on(results: Results) -> str:
    """The machine and the day, or both of each backend where they differ."""
    told = {backend: f"{results[backend].machine} on {_date(results[backend].day)}" for backend in results}
    if len(set(told.values())) == 1:
        return f"Measured with {next(iter(told.values()))}."
    return " ".join(f"{BACKENDS[backend]}: measured with {said}." for backend, said in told.items())


def _date(day: str) -> str:
    date = datetime.date.fromisoformat(day)
    return f"{date.day} {date:%B %Y}"


def counts(results: Results) -> str:
    """In how many rows nothing accurate is faster, and in how many Keras is not."""
    rows = [row for backend in results for row in _compared(results, backend)]
    beside = [row for row in rows if row.fastest_peer() is not None]
    keras = [row for row in rows if KERAS in row.seconds]
    return (
        f"In {sum(not faster(row, [KERAS]) for row in keras)} of {len(keras)} rows beside Keras, ours takes at most "
        f"{TELLING} of its time, and in {sum(not faster(row, row.accurate_peers()) for row in beside)} of {len(beside)} at most "
        f"{TELLING} of the fastest that passes the accuracy test."
    )


def slower(results: Results) -> str:
    """For each backend and mode, what is faster than ours: of those that pass the test, and of those that fail."""
    lines = []
    for backend in results:
        rows = _compared(results, backend)
        for mode in dict.fromkeys(row.mode for row in rows):
            here = [row for row in rows if row.mode == mode]
            title = f"{BACKENDS[backend]}, {mode}" if backend == "tensorflow" else BACKENDS[backend]
            lines.append(f"* **{title}**: {_listed(here)}")
    return "\n".join(lines)


def _listed(rows: Sequence[Row]) -> str:
    accurate = _worst((row, row.accurate_peers()) for row in rows)
    inaccurate = _worst((row, list(row.errors)) for row in rows)
    first = accurate or "nothing"
    return f"{first}." + (f" Failing the accuracy test: {inaccurate}." if inaccurate else "")


def _worst(pairs: Iterator[tuple[Row, Sequence[str]]]) -> str:
    """The largest ratio of each kind of work to the fastest of the given contenders, in words."""
    worst: dict[str, float] = {}
    for row, peers in pairs:
        if peers and faster(row, peers):
            kind = _kind(row.subject)
            worst[kind] = max(worst.get(kind, 0.0), _ratio(row, peers))
    return ", ".join(
        f"{kind} {ratio:.1f}" for kind, ratio in sorted(worst.items(), key=lambda item: -item[1])
    )


def faster(row: Row, peers: Sequence[str]) -> bool:
    """Whether one of these contenders is faster than ours by more than noise."""
    peers = [peer for peer in peers if peer in row.seconds]
    return bool(peers) and row.seconds[OURS] > row.resolution and _ratio(row, peers) > TELLING


def _ratio(row: Row, peers: Sequence[str]) -> float:
    return row.seconds[OURS] / min(row.seconds[peer] for peer in peers if peer in row.seconds)


def _kind(subject: str) -> str:
    """`SELU, (8,256,256,32), forward` is `SELU forward`; of an optimizer's or model's size nothing is left."""
    name, size, direction = subject.partition(", (")
    if not size:
        return subject.partition(", ")[0]
    if name.endswith(", inference"):
        return name.replace(",", " in")
    return f"{name} {'both ways' if direction.endswith('forward+backward') else 'forward'}"


def _compared(results: Results, backend: str) -> list[Row]:
    return [row for part in COMPARED for row in results[backend].parts.get(part, [])]
