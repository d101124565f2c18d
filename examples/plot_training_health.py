"""
Find what is wrong with a training that still learns
====================================================

A network for handwritten digits learns, but badly: its second layer is dead, for somebody set its bias to
-10, and its BatchNorm forgets so slowly that it tests with averages of its first steps.
:class:`~keras_addons_l6.health.TrainingHealth` names both; mended, the same network learns well.
"""

import warnings

import keras
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_addons_l6 as l6

EPOCHS = 8
images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    (images / 16).astype("float32"), labels, test_size=0.3, random_state=0, stratify=labels
)


def train(bias, momentum):
    """Return the watch and the history of a training, the same but for a bias and a momentum."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.Constant(bias)
    image = keras.Input((64,))
    x = l6.BatchNorm(momentum=momentum, name="norm")(keras.layers.Dense(64, use_bias=False)(image))
    x = keras.layers.ReLU()(x)
    branch = keras.layers.Dense(64, activation="relu", bias_initializer=start, name="hidden")(x)
    x = keras.layers.Dropout(0.2)(keras.layers.Add()([x, branch]))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax", name="digit")(x))
    model.compile(l6.AdamW(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    health = l6.TrainingHealth((x_train[:64], y_train[:64]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of on the way stands in the report, too
        history = model.fit(
            x_train,
            y_train,
            batch_size=64,
            epochs=EPOCHS,
            validation_data=(x_test, y_test),
            verbose=0,
            callbacks=[health],
        )
    return health, history.history


# %%
# The report of the sick training names both faults, and what helps.

sick, before = train(bias=-10.0, momentum=0.9999)
print(sick.report())
findings = [(finding.kind, finding.name) for finding in sick.report()]
assert findings[0] == ("dead", "hidden")
assert ("batch_norm", "norm") in findings

# %%
# With the bias at 0 and the momentum at 0.9 nothing is left to report.

healthy, after = train(bias=0.0, momentum=0.9)
print(healthy.report())
assert healthy.report().is_healthy
assert after["val_accuracy"][-1] > before["val_accuracy"][-1]

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
epochs = range(1, EPOCHS + 1)
for name, history in (("two faults", before), ("mended", after)):
    left.plot(epochs, history["val_accuracy"], "o-", label=f"{name}, test")
    left.plot(epochs, history["accuracy"], "--", label=f"{name}, training")
    middle.plot(epochs, history["health/dead"], "o-", label=name)
    right.plot(epochs, history["health/batch_norm_gap"], "o-", label=name)
left.set(title="What everybody watches", xlabel="epoch", ylabel="accuracy")
middle.set(title="Units that are never active", xlabel="epoch", ylabel="share of units")
right.set(title="BatchNorm: training against testing", xlabel="epoch", ylabel="difference of outputs")
for panel in (left, middle, right):
    panel.grid(alpha=0.3)
    panel.legend()
plt.show()
