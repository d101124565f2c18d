"""What a run of L-BFGS needs of torch: nothing is compiled."""

from collections.abc import Callable
from typing import Any

import torch


def value_and_gradient(fun: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        with torch.enable_grad():
            x = [leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in x]
            value, extra = fun(x, *rest)
            if not value.requires_grad:  # no x in it
                return value, [torch.zeros_like(leaf) for leaf in x], extra
            gradient = torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)
        return value.detach(), gradient, extra

    return evaluate


def outside_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run as it stands within `torch.compile`, which would take minutes over its many small operations."""
    return torch.compiler.disable(function)
