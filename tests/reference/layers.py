"""The layers in float64 NumPy, each line from the paper's equation."""

import numpy as np


def prelu(x, alpha):
    # He et al. (2015), eq. 1, for y_i in the form of the text below it
    return np.maximum(0.0, x) + alpha * np.minimum(0.0, x)


def selu(x):
    # Klambauer et al. (2017), eq. 2, constants from section 2 to the digits of float64
    scale, alpha = 1.0507009873554804934, 1.6732632423543772848
    return scale * np.where(x > 0.0, x, alpha * (np.exp(np.minimum(x, 0.0)) - 1.0))


def swish(x, beta):
    # Ramachandran et al. (2018), section 4; exp of a negative number only
    z = beta * x
    small = np.exp(-np.abs(z))
    return x * np.where(z >= 0, 1.0, small) / (1.0 + small)


def batch_norm(x, gamma, beta, axis, epsilon, mask=None):
    """Ioffe & Szegedy (2015), Algorithm 1: output, mean and biased variance, channel by channel."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    counted = np.broadcast_to(True if mask is None else np.moveaxis(mask, axis, -1), x.shape)
    y, means, variances = np.empty_like(x), [], []
    for c in range(x.shape[-1]):
        values = x[..., c][counted[..., c]]
        mean = values.sum() / len(values)
        variance = ((values - mean) ** 2).sum() / len(values)
        y[..., c] = gamma[c] * (x[..., c] - mean) / np.sqrt(variance + epsilon) + beta[c]
        means.append(mean)
        variances.append(variance)
    return np.moveaxis(y, -1, axis), np.array(means), np.array(variances)


def batch_norm_inference(x, gamma, beta, mean, variance, axis, epsilon):
    """Ioffe & Szegedy (2015), Algorithm 2, lines 10 and 11, with the moving averages for E[x] and Var[x]."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    return np.moveaxis(gamma * (x - mean) / np.sqrt(variance + epsilon) + beta, -1, axis)


def group_norm(x, gamma, beta, groups, axis, epsilon, mask=None):
    """Wu & He (2018), eqs. 1, 2, 6 and 7: mean and variance over the set S_i of each sample and group."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    counted = np.broadcast_to(True if mask is None else np.moveaxis(mask, axis, -1), x.shape)
    size = x.shape[-1] // groups
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for g in range(groups):
            channels = slice(g * size, (g + 1) * size)
            s = x[n, ..., channels][counted[n, ..., channels]]
            mean = s.sum() / s.size
            deviation = np.sqrt(((s - mean) ** 2).sum() / s.size + epsilon)
            y[n, ..., channels] = (x[n, ..., channels] - mean) / deviation
    return np.moveaxis(y * gamma + beta, -1, axis)


def instance_norm(x, gamma, beta, axis, epsilon):
    """Ulyanov et al. (2017), eq. 2: sums over the places of one sample and channel."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    places = tuple(range(1, x.ndim - 1))
    count = np.prod([x.shape[a] for a in places])
    mean = x.sum(axis=places, keepdims=True) / count
    variance = ((x - mean) ** 2).sum(axis=places, keepdims=True) / count
    return np.moveaxis((x - mean) / np.sqrt(variance + epsilon) * gamma + beta, -1, axis)


def layer_norm(x, gamma, beta, axes, epsilon):
    """Ba, Kiros & Hinton (2016), eqs. 3 and 4: the H hidden units of a layer lie along `axes`."""
    x = np.asarray(x, "float64")
    axes = tuple(sorted(a % x.ndim for a in axes))
    h = np.prod([x.shape[a] for a in axes])
    mean = x.sum(axis=axes, keepdims=True) / h
    sigma = np.sqrt(((x - mean) ** 2).sum(axis=axes, keepdims=True) / h + epsilon)
    shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    return (x - mean) / sigma * np.reshape(gamma, shape) + np.reshape(beta, shape)


def layer_norm_gradient(x, dy, gamma, axis, epsilon):
    """The chain rule through eqs. 3 and 4 for one axis: dl/dx, dl/dgamma, dl/dbeta."""
    x, dy = (np.moveaxis(np.asarray(t, "float64"), axis, -1) for t in (x, dy))
    h = x.shape[-1]
    centred = x - x.sum(-1, keepdims=True) / h
    sigma = np.sqrt((centred**2).sum(-1, keepdims=True) / h + epsilon)
    d_a = dy * gamma
    d_sigma = -(d_a * centred).sum(-1, keepdims=True) / sigma**2
    d_centred = d_a / sigma + d_sigma * centred / (h * sigma)
    dx = d_centred - d_centred.sum(-1, keepdims=True) / h
    over = tuple(range(x.ndim - 1))
    return np.moveaxis(dx, -1, axis), (dy * centred / sigma).sum(over), dy.sum(over)


def batch_norm_gradient(x, dy, gamma, axis, epsilon):
    """Ioffe & Szegedy (2015), section 3, the six equations after Algorithm 1: dl/dx, dl/dgamma, dl/dbeta."""
    x, dy = (np.moveaxis(np.asarray(t, "float64"), axis, -1) for t in (x, dy))
    over = tuple(range(x.ndim - 1))
    m = np.prod(x.shape[:-1])
    mean = x.sum(over) / m
    variance = ((x - mean) ** 2).sum(over) / m
    x_hat = (x - mean) / np.sqrt(variance + epsilon)
    d_x_hat = dy * gamma
    d_variance = (d_x_hat * (x - mean)).sum(over) * -0.5 * (variance + epsilon) ** -1.5
    d_mean = (-d_x_hat / np.sqrt(variance + epsilon)).sum(over) + d_variance * (-2.0 * (x - mean)).sum(
        over
    ) / m
    dx = d_x_hat / np.sqrt(variance + epsilon) + d_variance * 2.0 * (x - mean) / m + d_mean / m
    return np.moveaxis(dx, -1, axis), (dy * x_hat).sum(over), dy.sum(over)
