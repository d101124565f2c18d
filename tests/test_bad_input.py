"""Ten thousand wrong arguments and inputs: an error that names the argument, nothing half-changed."""

import inspect
import json
import math
import re
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
CLASSES = [*LAYERS, *OPTIMIZERS, optimizers.BFGS]
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


KERAS_CHECKS = (
    "initializer",
    "regularizer",
    "constraint",
    "dtype",
    "name",
)  # as it calls what it checks itself


def names_an_argument(cls, error, given):
    """Whether the message says whose argument is wrong, which, and what came; or says it in Keras's words."""
    message = str(error)
    if any(f"{name}=" in message for name in given) and cls.__name__ in message:
        return True
    if message.startswith("Only one of"):  # Keras's clippings
        return sum(f"`{name}`" in message for name in given) > 1
    kinds = [kind for kind in KERAS_CHECKS if any(kind in name for name in given)]
    if "config" in message and any(isinstance(given[n], dict) for n in given if any(k in n for k in kinds)):
        return True  # where a dictionary is no serialized object
    return any(kind in message.lower().replace(" ", "") for kind in kinds)


def constructions(seed):
    """Draw a class and one to three of its arguments with any values."""
    random = np.random.default_rng(seed)
    for _ in range(CONSTRUCTIONS):
        cls = CLASSES[random.integers(len(CLASSES))]
        known = arguments_of(cls)
        names = random.choice(known, min(len(known), random.integers(1, 4)), replace=False)
        yield cls, {str(name): VALUES[random.integers(len(VALUES))] for name in names}


def outcome(cls, given):
    """What is wrong with how a constructor takes its arguments; None where nothing is."""
    try:
        made = cls(**given)
    except (ValueError, TypeError) as error:
        return None if names_an_argument(cls, error, given) else f"unnamed {type(error).__name__}: {error}"
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
    layer(np.ones((2, 3, 6) if cls is layers.InstanceNorm else (2, 6), "float32"))
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


LINE = {"fun": lambda x: x * x, "x0": 1.0}
WRONG_NAMES = [
    *((cls, {"lr": 0.1}, "`learning_rate`") for cls in OPTIMIZERS),
    *((cls, {"params": []}, "by `compile` or `build`") for cls in OPTIMIZERS),
    *((cls, {"accumulation_steps": 2}, "`gradient_accumulation_steps`") for cls in OPTIMIZERS),
    (optimizers.Adam, {"eps": 1e-8}, "`epsilon`"),
    (optimizers.Adam, {"betas": (0.9, 0.999)}, "`beta_1` and `beta_2`"),
    (optimizers.AdamW, {"decoupled_lr": True}, "`decouple_lr`"),
    (optimizers.AdamW, {"amsgard": True}, "`amsgrad`"),
    (optimizers.RMSProp, {"alpha": 0.99}, "`rho`"),
    (optimizers.AdaGrad, {"lr_decay": 0.1}, "schedule as `learning_rate`"),
    (optimizers.Nesterov, {"nesterov": True}, "optimizer `Nesterov`"),
    (optimizers.Adam, {"nonsense": 1}, "It takes learning_rate, beta_1,"),
    (optimizers.LBFGS, {"tolerance_grad": 1e-7}, "`gradient_tolerance`"),
    (optimizers.LBFGS, {"tolerance_change": 1e-9}, "`change_tolerance`"),
    (optimizers.LBFGS, {"maxcor": 10}, "`history_size`"),
    (optimizers.BFGS, {"tolerance_grad": 1e-7}, "`gradient_tolerance`"),
    (optimizers.BFGS, {"lr": 0.1}, "`learning_rate`"),
    (optimizers.LBFGS, {"max_iter": 20}, "`max_iterations` to `fit_full_batch`"),
    (optimizers.LBFGS, {"line_search_fn": "strong_wolfe"}, "part of the method"),
    (optimizers.minimize, {**LINE, "gtol": 1e-5}, "`gradient_tolerance`"),
    (optimizers.minimize, {**LINE, "maxiter": 100}, "`max_iterations`"),
    (optimizers.minimize, {**LINE, "maxfun": 100}, "`max_evaluations`"),
    (optimizers.minimize, {**LINE, "maxcor": 10}, "`history_size`"),
    (optimizers.minimize, {**LINE, "ftol": 10}, "`change_tolerance`"),
    (optimizers.minimize, {**LINE, "jac": True}, "gradients are computed"),
    (optimizers.minimize, {**LINE, "nonsense": 1}, "It takes fun, x0,"),
    (optimizers.fit_full_batch, {"model": None, "x": None, "epochs": 9}, "`max_iterations`"),
    (optimizers.fit_full_batch, {"model": None, "x": None, "callback": print}, "`callbacks`"),
    (layers.BatchNorm, {"num_features": 8}, "read from the input"),
    (layers.BatchNorm, {"eps": 1e-5}, "`epsilon`"),
    (layers.BatchNorm, {"affine": False}, "`center` and `scale`"),
    (layers.BatchNorm, {"momentun": 0.9}, "`momentum`"),
    (layers.GroupNorm, {"num_groups": 8}, "`groups`"),
    (layers.GroupNorm, {"eps": 1e-5}, "`epsilon`"),
    (layers.InstanceNorm, {"groups": 8}, "GroupNorm"),
    (layers.PReLU, {"init": 0.25}, "`alpha_initializer`"),
    (layers.PReLU, {"num_parameters": 1}, "`shared_axes`"),
    (layers.SELU, {"inplace": True}, "never changes its input"),
    (layers.Swish, {"beta": 1.0}, "`beta_initializer`"),
]


@pytest.mark.parametrize(("call", "given", "hint"), WRONG_NAMES)
def test_a_wrong_name_gets_the_right_one(call, given, hint):
    wrong = list(given)[-1]
    for kind in (ValueError, TypeError):  # as Keras's classes raise, and Python's functions
        with pytest.raises(kind) as error:
            call(**given)
        assert str(error.value).startswith(f"{call.__name__} has no argument `{wrong}`. ")
        assert hint in str(error.value)


@pytest.mark.parametrize("cls", LAYERS)
def test_what_every_layer_takes_is_no_wrong_name(cls):
    assert cls(name="mine", dtype="float32", trainable=False, activity_regularizer=None).name == "mine"


def parameters_as_given():
    """What PyTorch's users pass first, in the forms they have it."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1000)])
    weights = model.trainable_variables
    return [
        model,
        weights,
        tuple(weights),
        iter(weights),
        weights[0],
        {"w": weights[0]},
        [{"params": weights}],
    ]


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_parameters_in_the_place_of_the_rate_get_a_sentence(cls):
    for given in parameters_as_given():
        for more in ({}, {"lr": 0.1}):
            with pytest.raises(ValueError, match="the first argument is `learning_rate`") as error:
                cls(given, **more)
            assert "optimizer.build(model.trainable_variables)" in str(error.value)
            assert len(str(error.value)) < 400


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ValueError, match=r"Adam: `epsilon` must be .* \(a list\)$") as error:
        optimizers.Adam(epsilon=list(range(10_000)))
    assert len(str(error.value)) < 400


FLAGS = [
    *((layers.BatchNorm, name) for name in ("center", "scale", "renorm", "synchronized", "unbiased_moving_variance")),
    *((cls, name) for cls in (layers.GroupNorm, layers.InstanceNorm) for name in ("center", "scale")),
    (layers.Swish, "trainable_beta"),
    (optimizers.Adam, "amsgrad"),
    (optimizers.RMSProp, "centered"),
    *((cls, "use_ema") for cls in OPTIMIZERS[:-1]),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "name"), FLAGS)
def test_a_flag_is_true_or_false_everywhere(cls, name):
    for value in (1, 0, 1.0, "yes", None, np.int64(1)):
        message = f"{cls.__name__}: `{name}` must be True or False. Received: {name}={value!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            cls(**{name: value})
    assert cls(**{name: np.bool_(False)}).get_config()[name] is False


def test_a_rate_that_may_mean_true_is_refused():
    for value in (1, 0, 2, np.int64(1)):
        with pytest.raises(
            ValueError, match="AdamW: `decouple_lr` must be True, False, or a rate as a float"
        ):
            optimizers.AdamW(decouple_lr=value)
    assert optimizers.AdamW(decouple_lr=1.0).decouple_lr == 1.0
    assert optimizers.AdamW(0.25, decouple_lr=np.bool_(True)).decouple_lr == 0.25
