"""Writes torch_training.npz: a PyTorch network before and after 100 steps, and its outputs.

    python tests/parity/make_torch_training.py

Imports no Keras: torch.optim and TensorFlow must not share a process.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

STEPS, SAMPLES, CHANNELS, RATE, MOMENTUM = 100, 16, 6, 0.02, 0.9


class Network(nn.Module):
    """Every layer that PyTorch and this package both have, between convolutions of one by one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 1),
            nn.BatchNorm2d(CHANNELS),
            nn.PReLU(CHANNELS),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            nn.GroupNorm(2, CHANNELS),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            nn.InstanceNorm2d(CHANNELS, affine=True),
            nn.SELU(),
            nn.Conv2d(CHANNELS, 1, 1),
        )

    def forward(self, x):
        return self.layers(x)


def arrays(network, prefix):
    """All weights and statistics by name, kernels as Keras keeps them: (1, 1, in, out)."""
    state = {name: value.numpy().copy() for name, value in network.state_dict().items() if value.ndim}
    kernels = {name: value.transpose(2, 3, 1, 0) for name, value in state.items() if value.ndim == 4}
    return {f"{prefix}/{name}": value for name, value in {**state, **kernels}.items()}


def main():
    """Train, and write what a port must repeat; images with channels last."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    network = Network()
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 3, 5, 4)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True)).astype("float32")
    written = arrays(network, "before")
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True)
    inputs, targets = torch.tensor(x).double(), torch.tensor(y).double()
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(inputs), targets).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        answer = network(inputs).numpy()
    last = {"x": x, "y": y, "answer": answer}
    written |= arrays(network, "after") | {name: np.moveaxis(value, 1, -1) for name, value in last.items()}
    np.savez_compressed(Path(__file__).with_name("torch_training.npz"), **written)


if __name__ == "__main__":
    main()
