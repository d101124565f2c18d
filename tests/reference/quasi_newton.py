"""The updates of Broyden's family in float64 NumPy, as the papers have them: whole matrices, B and H apart."""

import numpy as np


def update(name, h, s, y, first):
    """The inverse Hessian after a pair, from the one before (at the first pair: s'y / y'y times the identity)."""
    n, sy = len(s), s @ y
    if first:
        h = np.eye(n) * sy / (y @ y)
    yhy, sbs = y @ h @ y, s @ np.linalg.solve(h, s)
    tau, phi = RULES[name](yhy / sy, sbs / sy, n, first)
    v = s / sy - h @ y / yhy
    return (h - np.outer(h @ y, h @ y) / yhy + phi * yhy * np.outer(v, v)) / tau + np.outer(s, s) / sy


def bfgs(h, b, n, first):
    """Nocedal & Wright 2006, equation 6.17, is this with phi = 1."""
    return 1.0, 1.0


def self_scaled_bfgs(h, b, n, first):
    """Al-Baali 1998: only ever scaled down."""
    return (1.0 if first else min(1.0, 1 / b)), 1.0


def self_scaled_broyden(h, b, n, first):
    """Urban, Stefanou & Pons 2025, equations 13 to 23."""
    a = max(h * b - 1, 1e-30)
    c = np.sqrt(a / (1 + a))
    rho_minus = min(1.0, h * (1 - c))
    theta_minus, theta_plus = (rho_minus - 1) / a, 1 / rho_minus
    theta = max(theta_minus, min(theta_plus, (1 - b) / b))
    sigma = 1 + theta * a
    power = abs(sigma) ** (1 / (1 - n))
    rho = min(1.0, 1 / b)
    if first:
        tau = h / sigma
    elif theta <= 0:
        tau = min(rho * power, sigma)
    else:
        tau = rho * min(power, 1 / theta)
    return tau, (1 - theta) / sigma


RULES = {"bfgs": bfgs, "self_scaled_bfgs": self_scaled_bfgs, "self_scaled_broyden": self_scaled_broyden}
