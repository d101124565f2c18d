"""Writes torch_optim.npz: where torch.optim's optimizers are at chosen steps of the fixed gradients.

Run in a process of its own, with torch alone: python -m tests.parity.make_torch_goldens
"""

from pathlib import Path

import numpy as np
import torch

from tests.parity.gradients import SNAPSHOTS, gradients, rates, start

# name: (class, arguments, whether the rate changes)
CASES = {
    "nesterov": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}, False),
    "nesterov_changing_rate": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}, True),
    "sgd": (torch.optim.SGD, {"lr": 0.01}, False),
    "adagrad": (torch.optim.Adagrad, {}, False),
    "adagrad_initial": (torch.optim.Adagrad, {"initial_accumulator_value": 0.5, "eps": 1e-3}, True),
    "rmsprop": (torch.optim.RMSprop, {}, False),
    "rmsprop_momentum": (torch.optim.RMSprop, {"momentum": 0.9}, True),
    "rmsprop_centered": (torch.optim.RMSprop, {"centered": True}, False),
    "rmsprop_centered_momentum": (torch.optim.RMSprop, {"centered": True, "momentum": 0.5}, True),
    "adam": (torch.optim.Adam, {}, False),
    "adam_changing_rate": (torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-4}, True),
    "adam_amsgrad": (torch.optim.Adam, {"amsgrad": True}, False),
    "adamw": (torch.optim.AdamW, {}, False),
    "adamw_amsgrad": (torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}, True),
}


def path(optimizer_class, arguments, changing):
    """x at each of SNAPSHOTS."""
    x = torch.nn.Parameter(torch.tensor(start()))
    optimizer = optimizer_class([x], **arguments)
    (group,) = optimizer.param_groups
    snapshots = []
    for step, (gradient, rate) in enumerate(zip(gradients(), rates(group["lr"], changing), strict=True), 1):
        group["lr"] = float(rate)
        x.grad = torch.tensor(gradient)
        optimizer.step()
        if step in SNAPSHOTS:
            snapshots.append(x.detach().numpy().copy())
    return np.stack(snapshots)


if __name__ == "__main__":
    goldens = {name: path(*case) for name, case in CASES.items()}
    np.savez_compressed(Path(__file__).with_name("torch_optim.npz"), **goldens)
    print(f"torch {torch.__version__}: {len(goldens)} paths of shape {goldens['adam'].shape}")
