"""Ten thousand wrong arguments and inputs: an error that names the argument, nothing half-changed."""

import inspect
import json
import math
import warnings

import keras
import numpy as np
import pytest

from keras_addons_l6 import layers, optimizers

CONSTRUCTIONS = 10_000
LAYERS = [getattr(layers, name) for name in layers.__all__]
OPTIMIZERS = [
    getattr(optimizers, name) for name in ("Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS")
]
CALLBACKS_AND_BASE = {
    layers.PReLU: ["dtype", "name"],
    optimizers.Adam: [
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "weight_decay",
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    ],
}
VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**9, -(10**9), 0.0, -0.0, 0.5, 0.9, 1.0, 1.5, -0.1, 1e-45, 1e-7, -1e300,
    math.nan, math.inf, -math.inf, "", "zeros", "spatial", "all", "no such thing", b"bytes", (), (1,), [1, 2], [[1]], {}, {"a": 1},
    {1, 2}, 1j, object(), object, len, np.float32(0.5), np.int64(3), np.bool_(True), np.nan, np.array(0.5), np.array([0.1, 0.2]),
    np.zeros((2, 2)), range(3), slice(1), ..., "0.5", [None], -2, 2**70,
]  # fmt: skip


def arguments_of(cls):
    """The names that the constructor takes, Keras's common ones among them."""
    named = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is not p.VAR_KEYWORD]
    common = CALLBACKS_AND_BASE[layers.PReLU if cls in LAYERS else optimizers.Adam]
    return [*named, *(name for name in common if name not in named)]


def names_an_argument(error, given):
    """Whether the message says which argument is wrong, by its name or as Keras calls its kind."""
    message = str(error)
    if "config" in message and any(isinstance(value, dict) for value in given.values()):
        return True  # Keras's own words where a dictionary is no serialized object
    kinds = {"initializer", "regularizer", "constraint", "dtype", "DTypePolicy", "renorm", "axis", "axes"}
    return any(name in message for name in given) or any(
        kind.lower() in message.lower() for kind in kinds if any(kind.lower()[:4] in name for name in given)
    )


def constructions(seed):
    """Draw a class and one to three of its arguments with any values."""
    random = np.random.default_rng(seed)
    for _ in range(CONSTRUCTIONS):
        cls = (LAYERS + OPTIMIZERS)[random.integers(len(LAYERS) + len(OPTIMIZERS))]
        known = arguments_of(cls)
        names = random.choice(known, min(len(known), random.integers(1, 4)), replace=False)
        yield cls, {str(name): VALUES[random.integers(len(VALUES))] for name in names}


def outcome(cls, given):
    """What is wrong with how a constructor takes its arguments; None where nothing is."""
    try:
        made = cls(**given)
    except (ValueError, TypeError) as error:
        return None if names_an_argument(error, given) else f"unnamed {type(error).__name__}: {error}"
    except Exception as error:
        return f"undocumented {type(error).__name__}: {error}"
    # A function or an array is taken for an initializer, a regularizer or a rate; a config can't hold them.
    unwritable = (np.ndarray, np.generic)
    if any(callable(value) or isinstance(value, unwritable) for value in given.values()) or describes_itself(
        made
    ):
        return None
    return "accepted, but its config does not make the same again"


def describes_itself(made):
    """Whether the object's config can be written down and makes an equal one."""
    try:
        written = json.dumps(made.get_config())
        return json.dumps(type(made).from_config(json.loads(written)).get_config()) == written
    except Exception:
        return False


def test_ten_thousand_constructions_give_an_object_or_an_error_that_names_the_argument():
    problems = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of odd but allowed combinations
        for cls, given in constructions(seed=10):
            problem = outcome(cls, given)
            if problem:
                problems.setdefault(f"{cls.__name__}: {problem}"[:160], given)
    assert not problems, "\n".join(f"{problem} <- {given}" for problem, given in list(problems.items())[:40])


BAD_INPUTS = [
    None, "text", 3, 3.5, [], {}, object(), np.zeros(()), np.zeros((4,)), np.zeros((2, 7)), np.zeros((0, 6)), np.zeros((2, 3, 7)),
    np.array(["a"]), [np.zeros((2, 6)), np.zeros((2, 6))], np.zeros((2, 6), complex), [[1.0], [1.0, 2.0]],
]  # fmt: skip


def state(layer):
    return [keras.ops.convert_to_numpy(w).copy() for w in layer.weights]


@pytest.mark.parametrize("cls", LAYERS)
def test_a_bad_input_leaves_a_layer_as_it_was(cls):
    layer = cls(groups=2) if cls is layers.GroupNorm else cls()
    layer(np.ones((2, 6), "float32"))
    before, call = state(layer), {"training": True} if cls is layers.BatchNorm else {}
    for bad in BAD_INPUTS:
        try:
            layer(bad, **call)
        except Exception as error:
            # What is no tensor is refused by the backend, in its own words and with its own error.
            assert not isinstance(error, AssertionError | RecursionError | MemoryError), repr(bad)
            for weight, value in zip(state(layer), before, strict=True):
                np.testing.assert_array_equal(weight, value, err_msg=repr(bad))
        else:
            before = state(layer)
