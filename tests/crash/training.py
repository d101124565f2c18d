"""Run by test_kill_and_resume.py: trains, is killed where it is told, and goes on from its backup."""

import json
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_addons_l6 import layers, optimizers

SAMPLES, BATCHES, EPOCHS = 48, 4, 6
FULL_BATCH = ("LBFGS", "BFGS")
# They take one step an epoch: more epochs, so that most kills fall between the trials of a search.
FULL_BATCH_EPOCHS = 24
OPTIMIZERS = {
    "Nesterov": lambda: optimizers.Nesterov(0.02),
    "AdaGrad": lambda: optimizers.AdaGrad(0.05),
    "RMSProp": lambda: optimizers.RMSProp(0.01, momentum=0.5, centered=True),
    "Adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01, decouple_lr=True),
    "LBFGS": lambda: optimizers.LBFGS(),
    "BFGS": lambda: optimizers.BFGS("self_scaled_broyden"),
}


def steps(name):
    """How many train steps an undisturbed training of this optimizer takes."""
    return FULL_BATCH_EPOCHS if name in FULL_BATCH else EPOCHS * BATCHES


class KillAt(keras.callbacks.Callback):
    """Kills the process when training reaches the next of `points`, steps from the very beginning."""

    def __init__(self, points, marks, steps_per_epoch):
        super().__init__()
        self.points, self.marks, self.steps_per_epoch = points, marks, steps_per_epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Know where in the whole training this epoch begins."""
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Die here, if this is the point, without any chance to clean up."""
        killed = len(list(self.marks.parent.glob(f"{self.marks.name}.*")))
        if killed < len(self.points) and self.epoch * self.steps_per_epoch + batch >= self.points[killed]:
            self.marks.with_name(f"{self.marks.name}.{killed}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def network(name):
    """A small network with every kind of state; without what depends on batches or kinks on a full batch."""
    smooth = name in FULL_BATCH
    between = [] if smooth else [layers.BatchNorm(), layers.PReLU()]
    activation = "tanh" if smooth else None
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, activation=activation), *between, keras.layers.Dense(1)]
    )


def train(name, directory, points):
    """Train to the end, from the backup where there is one; return all weights and the optimizer's state."""
    keras.utils.set_random_seed(6)
    model = network(name)
    model.compile(OPTIMIZERS[name](), "mse")
    random = np.random.default_rng(8)
    x = random.normal(size=(SAMPLES, 6)).astype("float32")
    y = np.sin(x[:, :1] + x[:, 1:2] ** 2).astype("float32")
    steps_per_epoch = 1 if name in FULL_BATCH else BATCHES
    model.fit(
        x,
        y,
        batch_size=SAMPLES // steps_per_epoch,
        shuffle=False,
        epochs=FULL_BATCH_EPOCHS if name in FULL_BATCH else EPOCHS,
        verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(directory / f"backup_{name}"),
            KillAt(points, directory / f"killed_{name}", steps_per_epoch),
        ],
    )
    variables = [*model.weights, *model.optimizer.variables]
    return {f"{i:03}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}


def be_deterministic():
    """The same sums in the same order each time."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(6)
        tf.config.experimental.enable_op_determinism()
    elif keras.config.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def main(directory):
    """Train with each optimizer named in kills.json that has not finished, writing where each ends."""
    be_deterministic()
    directory = Path(directory)
    for name, points in json.loads((directory / "kills.json").read_text()).items():
        if not (directory / f"{name}.npz").exists():
            np.savez(directory / f"{name}.npz", **train(name, directory, points))


if __name__ == "__main__":
    main(sys.argv[1])
