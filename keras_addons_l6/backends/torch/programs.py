"""What a run of L-BFGS needs of torch: nothing is compiled."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras_addons_l6.backends.portable.programs import NO_GRADIENT

__all__ = ["beside_training", "outside_compiler", "value_and_gradient"]


def value_and_gradient(fun: Callable[..., Any], part: bool = False) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        with torch.enable_grad():
            x = [leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in x]
            value, extra = fun(x, *rest)
            gradients = (
                torch.autograd.grad(value, x, allow_unused=True) if value.requires_grad else [None] * len(x)
            )
        if all(gradient is None for gradient in gradients) and not part:
            raise ValueError(NO_GRADIENT)
        gradients = tuple(
            torch.zeros_like(leaf) if gradient is None else gradient
            for gradient, leaf in zip(gradients, x, strict=True)
        )
        return value.detach(), gradients, extra

    return evaluate


def outside_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run as it stands within `torch.compile`, which would take minutes over its many small operations."""
    return torch.compiler.disable(function)


@contextlib.contextmanager
def beside_training() -> Iterator[None]:
    """What a look at a model runs in: without gradients but those asked for, and torch's generators as they were."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    states = torch.cuda.get_rng_state_all() if cuda else []
    cpu = torch.get_rng_state()
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(states)
