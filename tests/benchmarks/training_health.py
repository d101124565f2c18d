"""What `TrainingHealth` costs, and whether it raises false alarms.

KERAS_BACKEND=torch python -m tests.benchmarks.training_health digits     the digits quickstart: epochs with and without
KERAS_BACKEND=torch python -m tests.benchmarks.training_health resnet50   ResNet50 at 224 pixels, batches of 8
KERAS_BACKEND=torch python -m tests.benchmarks.training_health memory     the same, how far the process grows meanwhile
KERAS_BACKEND=torch python -m tests.benchmarks.training_health alarms     twenty seeds of the healthy quickstart

Epochs alternate: one with a look, one without, and their medians are compared. An epoch of 100 steps of ResNet50 takes minutes
on two cores, so there a look and a step are timed by themselves: alternating, and the look's share of 100 steps is derived.
Beside the time the processor's time is given, of all threads: other work on the machine disturbs it less.
"""

import argparse
import gc
import importlib.util
import math
import os
import statistics
import time
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_addons_l6 as l6
from tests.benchmarks.memory import MEBIBYTE, process_bytes, start_peak_afresh

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"
STEPS = 100
LOOKED_AT = 32


def quickstart():
    """The example's module, for its data and its network."""
    spec = importlib.util.spec_from_file_location("quickstart", QUICKSTART)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clocks():
    """Seconds on the clock, and seconds that processors have worked for this process."""
    return np.array([time.perf_counter(), time.process_time()])


def median(seconds):
    """The median of each of the two."""
    return np.median(seconds, axis=0)


class EpochTimes(keras.callbacks.Callback):
    """Seconds of each epoch, from its beginning to the end of the callbacks that stand before this one."""

    def on_epoch_begin(self, epoch, logs=None):
        self._start = clocks()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(clocks() - self._start)

    def on_train_begin(self, logs=None):
        self.seconds = []


class Begin(EpochTimes):
    """Starts the clock of an `EpochTimes` before the callbacks between the two begin their epoch."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def on_epoch_begin(self, epoch, logs=None):
        self.end._start = clocks()

    def on_epoch_end(self, epoch, logs=None):
        pass


class End(EpochTimes):
    """Ends the clock that `Begin` has started."""

    def on_epoch_begin(self, epoch, logs=None):
        pass


def digits(epochs):
    """Median seconds of an epoch of the quickstart without and with a look; one training looks at every other epoch."""
    module = quickstart()
    x, x_test, y, y_test = module.digits()
    model = module.compiled(l6.AdamW(2e-3))
    end = End()
    health = l6.TrainingHealth((x_test[:LOOKED_AT], y_test[:LOOKED_AT]), every=2)
    model.fit(x, y, batch_size=64, epochs=2 * epochs + 2, verbose=0, callbacks=[Begin(end), health, end])
    seconds = end.seconds[2:]  # the first two compile
    return median(seconds[1::2]), median(seconds[::2])


def resnet50_and_data():
    """ResNet50 to be trained, and one batch of 8."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    return model, random.normal(size=(8, 224, 224, 3)).astype("float32"), random.integers(0, 1000, 8)


def resnet50(looks):
    """Median seconds of 100 steps, derived from single steps, and of them with a look; steps and looks alternate."""
    model, x, y = resnet50_and_data()
    clock = Parts()
    health = Timed((x, y), clock)
    model.fit(x, y, batch_size=8, epochs=looks + 1, verbose=0, callbacks=[health])
    step, look = median(clock.steps[1:]), median(clock.looks[2:])
    return STEPS * step, STEPS * step + look


class Parts:
    """Seconds of steps and of looks."""

    def __init__(self):
        self.steps, self.looks = [], []


class Timed(l6.TrainingHealth):
    """Times what it does itself, and, with one step an epoch, what is between."""

    def __init__(self, batch, clock):
        super().__init__(batch)
        self.clock = clock

    def on_train_begin(self, logs=None):
        start = clocks()
        super().on_train_begin(logs)
        self.clock.looks.append(clocks() - start)

    def on_epoch_begin(self, epoch, logs=None):
        start = clocks()
        super().on_epoch_begin(epoch, logs)
        self._end_of_begin = clocks()
        self._sampling = self._end_of_begin - start

    def on_epoch_end(self, epoch, logs=None):
        start = clocks()
        self.clock.steps.append(start - self._end_of_begin)
        super().on_epoch_end(epoch, logs)
        self.clock.looks.append(clocks() - start + self._sampling)


def memory(looks):
    """Mebibytes by which the process grows in a step, in a look, and for good from look to look; and the activations'."""
    model, x, y = resnet50_and_data()
    weighed = Weighed((x, y))
    model.fit(x, y, batch_size=8, epochs=looks + 2, verbose=0, callbacks=[weighed])
    activations = sum(math.prod(layer.output.shape[1:]) for layer in model.layers) * len(x) * 4
    return {
        "all layers' outputs": activations / MEBIBYTE,
        "a step": statistics.median(weighed.steps[2:]) / MEBIBYTE,
        "a look": statistics.median(weighed.looks[2:]) / MEBIBYTE,
        "left after each look": (weighed.after[-1] - weighed.after[1]) / (len(weighed.after) - 2) / MEBIBYTE,
    }


class Weighed(l6.TrainingHealth):
    """Weighs what it does itself, and, with one step an epoch, what is between."""

    def on_train_begin(self, logs=None):
        self.steps, self.looks, self.after = [], [], []
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._start()

    def on_epoch_end(self, epoch, logs=None):
        self.steps.append(process_bytes("VmHWM") - self._at_start)
        self._start()
        super().on_epoch_end(epoch, logs)
        self.looks.append(process_bytes("VmHWM") - self._at_start)
        gc.collect()
        self.after.append(process_bytes("VmRSS"))

    def _start(self):
        gc.collect()
        self._at_start = process_bytes("VmRSS")
        start_peak_afresh()


def alarms(seeds):
    """What the reports of the healthy quickstart and its warnings said, by seed: nothing, it should be."""
    module = quickstart()
    x, x_test, y, y_test = module.digits()
    said = {}
    for seed in range(seeds):
        model = module.compiled(l6.AdamW(2e-3))
        keras.utils.set_random_seed(seed)
        for variable in model.trainable_variables:
            if len(variable.shape) > 1:
                variable.assign(keras.initializers.GlorotUniform(seed)(variable.shape))
        health = l6.TrainingHealth((x_test[:LOOKED_AT], y_test[:LOOKED_AT]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, y, batch_size=64, epochs=module.EPOCHS, verbose=0, callbacks=[health])
        ours = [str(each.message) for each in caught if str(each.message).startswith("TrainingHealth")]
        said[seed] = [*(finding.sentence for finding in health.report()), *ours]
        print(f"seed {seed}: {'; '.join(said[seed]) or 'nothing'}", flush=True)
    return said


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["digits", "resnet50", "memory", "alarms"])
    parser.add_argument("--repeats", type=int, help="epochs with a look, looks, or seeds")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.what == "alarms":
        said = alarms(arguments.repeats or 20)
        print(
            f"{keras.backend.backend()}: {sum(map(bool, said.values()))} of {len(said)} seeds raised an alarm"
        )
        return
    if arguments.what == "memory":
        grown = memory(arguments.repeats or 4)
        print(
            f"{keras.backend.backend()}: "
            + ", ".join(f"{what} {much:,.0f} MiB" for what, much in grown.items())
        )
        return
    measure = {"digits": digits, "resnet50": resnet50}[arguments.what]
    without, watched = measure(arguments.repeats or {"digits": 20, "resnet50": 4}[arguments.what])
    more = watched / without - 1
    print(
        f"{keras.backend.backend()}, {os.cpu_count()} cores, {arguments.what}: an epoch takes {without[0]:.3f} s, with a look "
        f"{watched[0]:.3f} s: {more[0]:+.1%}; of the processors {without[1]:.3f} s, {watched[1]:.3f} s: {more[1]:+.1%}"
    )


if __name__ == "__main__":
    main()
