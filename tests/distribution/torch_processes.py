"""Run by test_torch.py, twice at once: a DDP process over gloo; prints its end, and that of one."""

import json
import os

import keras
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.distribution import problem


class Dense(keras.layers.Dense):
    """Keras's, with torch's own product: Keras's on torch computes float64 in float32."""

    def call(self, inputs, training=None):
        return self.activation(torch.matmul(inputs, self.kernel.value) + self.bias.value)


def trained(optimizer, rank, processes):
    """The network after STEPS steps of a torch loop on this process's share of the samples."""
    model = problem.network(dense=Dense)
    x, y = (torch.tensor(part[rank::processes]) for part in problem.data())
    module = DistributedDataParallel(model) if processes > 1 else model
    variables = model.trainable_variables
    optimizer.build(variables)
    for _ in range(problem.STEPS):
        module.zero_grad()
        loss = torch.mean((module(x) - y) ** 2)
        optimizer.scale_loss(loss).backward()
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)
    optimizer.finalize_variable_values(variables)
    return model


def main():
    """Print, by optimizer, the weights this process ends with and those of a training in one process."""
    problem.use_float64()
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    results = {
        name: {
            "spread": problem.flat(trained(make(), rank, 2)),
            "alone": problem.flat(trained(make(), 0, 1)),
        }
        for name, make in problem.OPTIMIZERS.items()
    }
    torch.distributed.destroy_process_group()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
