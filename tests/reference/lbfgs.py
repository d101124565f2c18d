"""L-BFGS as Nocedal & Wright (Numerical Optimization, 2nd edition, 2006) write it: dense matrices, and plain lists."""

import numpy as np


def bfgs_inverse(pairs, size):
    """The inverse Hessian approximation, a dense matrix, after BFGS updates of gamma I by pairs (s, y), oldest first."""
    inverse = np.eye(size)
    if pairs:
        s, y = pairs[-1]
        inverse *= (s @ y) / (y @ y)  # gamma_k, equation (7.20)
    for s, y in pairs:
        rho = 1 / (y @ s)  # equation (6.14)
        left = np.eye(size) - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)  # equation (6.17)
    return inverse


def two_loop(pairs, gradient):
    """H g by the two-loop recursion, Algorithm 7.4, over a list of pairs (s, y), oldest first."""
    if not pairs:
        return gradient.copy()
    q = gradient.copy()
    alphas = []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (y @ s))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q  # H_k^0 = gamma_k I, equation (7.20)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (y @ r) / (y @ s)
        r = r + s * (alpha - beta)
    return r
