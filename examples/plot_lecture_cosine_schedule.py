"""
What a cosine schedule gains over a constant rate
=================================================

The lecture's advice for a learning rate: start high, and let half a cosine bring it to zero; it has hardly
a parameter to choose. AdamW on scikit-learn's digits, with a constant rate and with the schedule.
"""

import keras
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_addons_l6 as l6

EPOCHS, BATCH = 30, 64
images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    (images / 16).astype("float32"), labels, test_size=0.3, random_state=0, stratify=labels
)
steps = EPOCHS * -(-len(x_train) // BATCH)


def train(learning_rate):
    """Return the history of the same network from the same weights under one learning rate."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(64), l6.Swish(), keras.layers.Dense(64), l6.Swish()]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, activation="softmax")])
    model.compile(l6.AdamW(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = (x_test, y_test)
    return model.fit(
        x_train, y_train, batch_size=BATCH, epochs=EPOCHS, validation_data=data, verbose=0
    ).history


cosine = keras.optimizers.schedules.CosineDecay(0.05, steps)
runs = {"constant 0.05": train(0.05), "constant 0.001": train(0.001), "cosine from 0.05": train(cosine)}
for name, history in runs.items():
    print(
        f"{name:17} training loss {history['loss'][-1]:.1e}, test accuracy {history['val_accuracy'][-1]:.2%}"
    )

# %%
# The high constant rate never settles and the low one is slow; the schedule is quick first and calm at the
# end.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, history in runs.items():
    right.semilogy(range(1, EPOCHS + 1), history["loss"], label=name)
rates = [float(cosine(step)) for step in range(steps)]
left.plot([step * EPOCHS / steps for step in range(steps)], rates, color="C2")
left.set(xlabel="epoch", ylabel="learning rate", title="Half a cosine")
right.set(xlabel="epoch", ylabel="training loss (cross-entropy, nats)", title="AdamW on digits")
right.legend()
for panel in (left, right):
    panel.grid(alpha=0.3)
plt.show()
