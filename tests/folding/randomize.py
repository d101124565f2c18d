"""Statistics and weights that make a wrong fold show."""

import numpy as np
from keras import layers as L


def batch_norms(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]


def randomize(model, seed=0):
    """Give every BatchNorm scales of both signs, shifts and statistics of its own, and every bias a value."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        bias = getattr(layer, "bias", None)
        if bias is not None:
            bias.assign(generator.normal(size=bias.shape))
    for name in ("lora_kernel_b", "lora_embeddings_b"):
        for layer in model._flatten_layers(include_self=False):
            if hasattr(layer, name):
                getattr(layer, name).assign(generator.normal(size=getattr(layer, name).shape))
    if getattr(model, "frozen_statistics", False):
        return model
    for norm in batch_norms(model):
        _randomize_norm(norm, generator)
    return model


def _randomize_norm(norm, generator):
    shape = norm.moving_mean.shape
    signs = getattr(norm, "test_signs", (-1.0, 1.0))
    if norm.gamma is not None:
        norm.gamma.assign(generator.uniform(0.5, 1.5, shape) * generator.choice(signs, shape))
    mean = generator.normal(size=shape)
    unshifted = getattr(norm, "test_unshifted", False)
    if norm.beta is not None:
        norm.beta.assign(np.zeros(shape) if unshifted else generator.normal(size=shape))
    norm.moving_mean.assign(np.zeros(shape) if unshifted else mean)
    norm.moving_variance.assign(generator.uniform(0.5, 2.0, shape))
