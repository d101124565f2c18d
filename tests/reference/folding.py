"""Layers in float64 NumPy, written from their definitions: loops over places, no tricks."""

import itertools

import numpy as np


def batch_norm(x, gamma, beta, mean, variance, epsilon, axis):
    """Ioffe & Szegedy (2015), with moving statistics: gamma (x - mean) / sqrt(variance + eps) + beta."""
    shape = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
    gamma, beta, mean, variance = (np.reshape(value, shape) for value in (gamma, beta, mean, variance))
    return gamma * ((x - mean) / np.sqrt(variance + epsilon)) + beta


def dense(x, kernel, bias):
    """y[..., o] = sum_i x[..., i] kernel[i, o] + bias[o]."""
    return np.einsum("...i,io->...o", x, kernel) + bias


def conv(x, kernel, bias, groups=1):
    """Valid, stride 1: y[p, o] = sum_{k, i} x[p + k, i] kernel[k, i, o] + bias[o], i in the group of o."""
    window, inside, out = kernel.shape[:-2], kernel.shape[-2], kernel.shape[-1]
    sizes = [size - k + 1 for size, k in zip(x.shape[1:-1], window, strict=True)]
    y = np.zeros((x.shape[0], *sizes, out))
    for place in itertools.product(*map(range, sizes)):
        patch = x[(slice(None), *(slice(p, p + k) for p, k in zip(place, window, strict=True)))]
        for o in range(out):
            group = o // (out // groups)
            seen = patch[..., group * inside : (group + 1) * inside]
            y[(slice(None), *place, o)] = (seen * kernel[..., o]).reshape(x.shape[0], -1).sum(axis=1) + bias[
                o
            ]
    return y


def depthwise(x, kernel, bias):
    """Output channel i * multiplier + m sees input channel i through kernel[..., i, m]."""
    channels, multiplier = kernel.shape[-2:]
    outputs = [
        conv(x[..., i : i + 1], kernel[..., i : i + 1, m : m + 1], bias[i * multiplier + m, None])
        for i in range(channels)
        for m in range(multiplier)
    ]
    return np.concatenate(outputs, axis=-1)


def separable(x, depthwise_kernel, pointwise_kernel, bias):
    """A depthwise convolution without a bias, then a 1x1 convolution."""
    inner = np.prod(depthwise_kernel.shape[-2:])
    return conv(depthwise(x, depthwise_kernel, np.zeros(inner)), pointwise_kernel, bias)


def conv_transpose(x, kernel, bias):
    """Stride 1, valid: every input place p adds x[p, i] kernel[k, o, i] to output place p + k."""
    window, out = kernel.shape[:-2], kernel.shape[-2]
    y = np.zeros((x.shape[0], *(size + k - 1 for size, k in zip(x.shape[1:-1], window, strict=True)), out))
    for place in itertools.product(*map(range, x.shape[1:-1])):
        for offset in itertools.product(*map(range, window)):
            target = (slice(None), *(p + k for p, k in zip(place, offset, strict=True)))
            y[target] += x[(slice(None), *place)] @ kernel[offset].T
    return y + bias
