"""How far AdamW's 1,000 float32 steps end from its formula in float64, ours and on torch `torch.optim`'s, as Markdown.

KERAS_BACKEND=torch python -m tests.benchmarks.adamw_rounding

1,000 parameters of order one and, for each, gradients of one size between 1e-4 and 10 with a drift; the error is the largest
of a parameter's, over the largest parameter.
"""

import argparse
import os

STEPS, PARAMETERS = 1000, 1000
RATE, DECAY = 1e-3, 0.01


def problem(seed):
    """Parameters and the gradients of all steps, exact in float32, as float64."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.normal(size=PARAMETERS).astype("float32").astype("float64")
    sizes = 10 ** rng.uniform(-4, 1, PARAMETERS)
    gradients = rng.normal(0.3, 1.0, (STEPS, PARAMETERS)) * sizes
    return x, gradients.astype("float32").astype("float64")


def by_formula(x, gradients):
    """Loshchilov & Hutter 2019, Algorithm 2 in float64, with the decay times the rate as PyTorch has it."""
    from tests.reference.optimizers import adam

    rates = [RATE] * len(gradients)
    return adam(x, gradients, rates, 0.9, 0.999, 1e-8, decay=lambda rate: rate * DECAY)[-1]


def by_ours(x, gradients):
    """This package's, on the active backend."""
    from keras_addons_l6 import AdamW
    from tests.optimizers.driving import FASTEST, follow

    return follow(AdamW(RATE, weight_decay=DECAY), x, gradients, FASTEST, dtype="float32")[-1]


def by_torch(x, gradients):
    """torch.optim's with its defaults, whose decay is the same."""
    import torch

    parameter = torch.nn.Parameter(torch.tensor(x, dtype=torch.float32))
    optimizer = torch.optim.AdamW([parameter], lr=RATE)
    for gradient in torch.tensor(gradients, dtype=torch.float32):
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach().numpy()


def errors(seed, contenders):
    """The error of each contender on the problem of a seed."""
    import numpy as np

    x, gradients = problem(seed)
    exact = by_formula(x, gradients)
    return [np.abs(run(x, gradients) - exact).max() / np.abs(exact).max() for run in contenders]


def main():
    """Print a row for each contender."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.adamw_rounding", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many problems")
    seeds = parser.parse_args().seeds
    import keras

    backend = keras.config.backend()
    contenders = {f"ours, {backend}": by_ours} | (
        {"torch.optim.AdamW": by_torch} if backend == "torch" else {}
    )
    found = [errors(seed, contenders.values()) for seed in range(seeds)]
    print("| AdamW | least error | largest error |\n|---|---|---|")
    for name, row in zip(contenders, zip(*found, strict=True), strict=True):
        print(f"| {name} | {min(row):.1e} | {max(row):.1e} |")


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "torch")
    main()
