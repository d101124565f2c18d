"""The optimizers in float64 NumPy, each transcribed from its paper's algorithm: one path of x per call.

Every function takes x0, the gradients of all steps and a rate for each step, and returns x after each step.
"""

from fractions import Fraction

import numpy as np


def nesterov_look_ahead(x0, gradients, rates, momentum):
    """Sutskever et al. 2013, equations 3 and 4, in the look-ahead variable y = theta + mu v."""
    theta, v, path = x0, np.zeros_like(x0), []
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v - rate * g  # eq. 3: g is the gradient at theta + mu v
        theta = theta + v  # eq. 4
        path.append(theta + momentum * v)
    return np.stack(path)


def adagrad(x0, gradients, rates, initial=0.0, epsilon=1e-7):
    """Duchi, Hazan & Singer 2011, figure 1 with H = delta I + diag(G)^(1/2), G = initial + sum of g g^T."""
    path = []
    x = x0
    for t in range(len(gradients)):
        sum_of_squares = initial + np.sum(np.square(gradients[: t + 1]), axis=0)
        x = x - rates[t] * gradients[t] / (epsilon + sum_of_squares**0.5)
        path.append(x)
    return np.stack(path)


def rmsprop(x0, gradients, rates, rho, momentum=0.0, epsilon=1e-7, centered=False):
    """Graves 2013, equations 38 to 41, with epsilon outside the root and the rate outside the buffer."""
    x, n, mean, buffer, path = x0, 0 * x0, 0 * x0, 0 * x0, []
    for g, rate in zip(gradients, rates, strict=True):
        n = rho * n + (1 - rho) * g**2  # eq. 38
        mean = rho * mean + (1 - rho) * g  # eq. 39
        variance = np.maximum(n - mean**2, 0) if centered else n
        buffer = momentum * buffer + g / (np.sqrt(variance) + epsilon)  # eq. 40
        x = x - rate * buffer  # eq. 41
        path.append(x)
    return np.stack(path)


def adam(x0, gradients, rates, beta_1, beta_2, epsilon, amsgrad=False, decay=lambda rate: 0.0):
    """Kingma & Ba 2015, Algorithm 1; Loshchilov & Hutter 2019, Algorithm 2 with `decay` for eta_t lambda."""
    theta, m, v, largest, path = x0, 0 * x0, 0 * x0, 0 * x0, []
    for t, (g, alpha) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        largest = np.maximum(largest, v)
        m_hat = m / float(1 - Fraction(beta_1) ** t)  # exact, also for a beta next to 1
        v_hat = (largest if amsgrad else v) / float(1 - Fraction(beta_2) ** t)
        theta = theta - (alpha * m_hat / (np.sqrt(v_hat) + epsilon) + decay(alpha) * theta)
        path.append(theta)
    return np.stack(path)
