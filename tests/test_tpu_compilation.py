"""What trains compiles for a TPU: no call back to the host, donated memory reused, temporaries bounded.

The TPU compiler runs on any host (`pip install libtpu`), ahead of time, for chips that need not be there.
"""

import os
import re

import keras
import numpy as np
import pytest

if keras.config.backend() != "jax":
    pytest.skip("the TPU compiler is reached through JAX", allow_module_level=True)
pytest.importorskip("libtpu", reason="the TPU compiler comes with `pip install libtpu`")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from keras_addons_l6 import layers, optimizers
from keras_addons_l6.backends import arrays_for
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory

MEBIBYTE = 2**20
CHIPS = (1, 4)
FIRST_ORDER = {
    "Nesterov": lambda: optimizers.Nesterov(),
    "AdaGrad": lambda: optimizers.AdaGrad(),
    "RMSProp": lambda: optimizers.RMSProp(momentum=0.9, centered=True),
    "Adam": lambda: optimizers.Adam(amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(),
}
TILE = 8 * 128 * 4  # bytes: what the TPU gives out memory in, 8 rows of 128 float32
# Whole tiles, so that no padding enters the bounds.
BATCH, SIDE, CHANNELS = 8, 8, 128
PARAMETERS = 2**17  # of the problem for L-BFGS


@pytest.fixture(scope="module")
def topology():
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else it asks a cloud host what chips there are
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing here needs a chip of its own
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")


class Slice:
    """`chips` TPU chips: values are replicated on them, batches split among them."""

    def __init__(self, topology, chips):
        mesh = Mesh(np.array(topology.devices[:chips]), ("batch",))
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec("batch"))

    def replicated(self, tree):
        return jax.tree.map(lambda x: self._struct(x, self.everywhere), tree)

    def batch(self, tree):
        return jax.tree.map(lambda x: self._struct(x, self.split), tree)

    @staticmethod
    def _struct(x, sharding):
        x = jnp.asarray(x)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def bytes_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def aliased(compiled):
    """How many outputs take the memory of a donated argument."""
    header = compiled.as_text().split("\n", 1)[0]
    return header.count("-alias)")


def calls_host(compiled):
    return re.search(r"is_host_transfer=true|infeed|outfeed|callback", compiled.as_text()) is not None


def model_with_every_layer():
    inputs = x = keras.Input((SIDE, SIDE, CHANNELS))
    for layer in (
        keras.layers.Conv2D(CHANNELS, 3, padding="same"),
        layers.BatchNorm(),
        layers.PReLU(),
        layers.GroupNorm(8),
        layers.SELU(),
        layers.InstanceNorm(),
        layers.Swish(),
        layers.LayerNorm(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(CHANNELS),
    ):
        x = layer(x)
    return keras.Model(inputs, x)


def train_step_state(model):
    model.optimizer.build(model.trainable_variables)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return tuple([v.value for v in group] for group in groups)


def optimizers_to_train_with():
    return {
        **FIRST_ORDER,
        "LBFGS": lambda: optimizers.LBFGS(history_size=3),
        "BFGS": lambda: optimizers.BFGS(),
    }


def test_a_program_that_calls_the_host_is_noticed(topology):
    def step(x):
        return 1 + jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    x = Slice(topology, 1).replicated(np.ones((8, 128), np.float32))
    assert calls_host(jax.jit(step).lower(x).compile())


@pytest.mark.parametrize("chips", CHIPS)
@pytest.mark.parametrize("name", ["AdamW", "LBFGS"])
def test_a_train_step_with_every_layer(topology, chips, name):
    model = model_with_every_layer()
    model.compile(optimizers_to_train_with()[name](), "mean_squared_error")
    x = np.zeros((BATCH * chips, SIDE, SIDE, CHANNELS), np.float32)
    y = np.zeros((BATCH * chips, CHANNELS), np.float32)
    model.compute_loss(None, y, jnp.zeros(y.shape))  # builds the loss's and the metrics' variables
    state = train_step_state(model)
    there = Slice(topology, chips)
    step = jax.jit(model.train_step, donate_argnums=0)
    compiled = step.lower(there.replicated(state), there.batch((x, y))).compile()
    assert not calls_host(compiled)
    assert aliased(compiled) == len(jax.tree.leaves(state))
    # One saved tensor for each of the 9 image-sized layers, of a chip's share of the batch, and gradients.
    # L-BFGS chooses between two histories, so it needs a second one.
    activations = 9 * 4 * BATCH * SIDE * SIDE * CHANNELS
    history = bytes_of(state[2]) if name == "LBFGS" else 0
    assert compiled.memory_analysis().temp_size_in_bytes <= activations + bytes_of(state[0]) + history


@pytest.mark.parametrize("chips", CHIPS)
@pytest.mark.parametrize("name", list(FIRST_ORDER))
def test_an_update_donates_its_state(topology, chips, name):
    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in [(1024, 2048), (8, 128), (128,)]]
    optimizer = FIRST_ORDER[name]()
    optimizer.build(variables)
    values, state = [v.value for v in variables], [v.value for v in optimizer.variables]
    there = Slice(topology, chips)
    step = jax.jit(lambda x, s, g: optimizer.stateless_apply(s, g, x), donate_argnums=(0, 1))
    compiled = step.lower(*map(there.replicated, (values, state, values))).compile()
    assert not calls_host(compiled)
    # The learning rate comes out as it went in, which XLA may do without touching it.
    assert aliased(compiled) >= len(values) + len(state) - 1
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= bytes_of((values, state)) - 4
    assert memory.temp_size_in_bytes <= 8 * TILE  # the rule's scalars: no tensor is written twice


@pytest.mark.parametrize("chips", CHIPS)
def test_the_whole_lbfgs_loop(topology, chips):
    """Least squares over a batch split among the chips, from the first evaluation to the last."""

    def evaluate(trial, extra, data):
        x, y = data
        value, gradient = jax.value_and_grad(lambda w: jnp.mean(jnp.square(x @ w - y)))(trial[0])
        return value, (gradient,), extra

    start = (jnp.zeros((PARAMETERS,), jnp.float32),)
    settings = iteration.Settings(curvature=LimitedMemory(8))  # whole tiles
    arrays = arrays_for(start)
    carry = programs.Carry(iteration.init(arrays, settings, start), start, ())
    limits = programs.on_device(programs.Limits(100, 50, 1e-5, 0.0), arrays)
    x = np.zeros((BATCH * chips, PARAMETERS), np.float32)
    there = Slice(topology, chips)
    program = programs.chunk_program(evaluate, settings, arrays)
    data = there.batch((x, x[:, 0]))
    compiled = program.lower(there.replicated(carry), data, there.replicated(limits)).compile()
    text = compiled.as_text()
    assert not calls_host(compiled)
    assert " while(" in text  # the loop itself is on the device
    assert chips == 1 or "all-reduce" in text
    # A trial's gradient and the direction; a MiB holds some hundred scalars, a tile each.
    assert compiled.memory_analysis().temp_size_in_bytes <= 2 * bytes_of(start) + MEBIBYTE
