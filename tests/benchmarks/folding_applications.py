"""Every architecture of `keras.applications`, folded: what is left, why, how exact, how long; as Markdown.

    KERAS_BACKEND=jax python -m tests.benchmarks.folding_applications > docs/folding_applications.md

Weights are random. The statistics are drawn so that a wrong fold shows: scales, shifts, means and
variances that differ from channel to channel. `--only NAME ...` runs some of them.
"""

import argparse
import inspect
import time
from collections import Counter

import keras
import numpy as np

from keras_addons_l6.folding import fold_with_report
from tests.folding.randomize import batch_norms

# each accepts images no smaller than this without its top
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
# With random weights the deep ones amplify any rounding a thousandfold: theirs have statistics close to none, and the
# deepest, whose values would grow from block to block until float64, too, has no digit right, smaller scales.
GENTLE, DAMPED = "EfficientNet", ("EfficientNetV2M", "EfficientNetV2L")


def architectures():
    """The names of all architectures that run on the backend, in the order of the alphabet."""
    names = [
        name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction) if name[0].isupper()
    ]
    # Keras itself refuses to build NASNet on torch
    return [name for name in names if not (keras.config.backend() == "torch" and name.startswith("NASNet"))]


def build(name, full_size=False):
    """A model with random weights and statistics, at the smallest image it accepts."""
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    if full_size:
        model = make(weights=None, classifier_activation=None)
    else:
        size = SMALLEST.get(name, 32)
        model = make(weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg")
    spread = 0.05 if name.startswith(GENTLE) else 0.3
    return with_statistics(model, spread, scale=0.5 if name in DAMPED else 1.0)


def with_statistics(model, spread, scale=1.0):
    """Draw scales around `scale`, shifts and means around zero, variances around one."""
    generator = np.random.default_rng(0)
    for norm in batch_norms(model):
        shape = norm.moving_mean.shape
        for variable, center in ((norm.gamma, scale), (norm.beta, 0.0), (norm.moving_mean, 0.0)):
            if variable is not None:
                variable.assign(center + spread * generator.normal(size=shape))
        norm.moving_variance.assign(np.exp(spread * generator.normal(size=shape)))
    return model


def row(name, full_size=False):
    """One line of the table."""
    model = build(name, full_size)
    start = time.perf_counter()
    folding = fold_with_report(model, verbose=0)
    seconds = time.perf_counter() - start
    reasons = Counter(kept.reason.code for kept in folding.report.kept)
    why = ", ".join(f"{count} {code}" for code, count in reasons.most_common())
    counts = f"{len(folding.report)} | {len(folding.report.kept)} | {why}"
    error = max(output.error for output in folding.verification.outputs)
    return f"| {name} | {counts} | {error:.1e} | {seconds:.1f} |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=architectures(), metavar="NAME")
    parser.add_argument("--full-size", action="store_true", help="with the top, at the default image size")
    arguments = parser.parse_args()
    print(f"Backend: {keras.config.backend()}, Keras {keras.__version__}.\n")
    print("| architecture | BatchNorm calls | left | why | largest error of an output | seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.only:
        print(row(name, arguments.full_size), flush=True)


if __name__ == "__main__":
    main()
