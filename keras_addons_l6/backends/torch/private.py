"""The one door to what torch does not promise: each private function used, and why no public one serves.

Each is looked up when this file is imported, on the torch backend alone, and one that is missing raises an error.
"""

from collections.abc import Callable
from typing import Any

import torch

__all__ = [
    "backward_pass",
    "foreach_add",
    "foreach_add_",
    "foreach_copy_",
    "foreach_div",
    "foreach_maximum",
    "foreach_mul",
    "foreach_sqrt",
    "foreach_sub",
    "fused_adagrad_",
    "fused_adam_",
    "fused_sgd_",
    "is_in_functorch",
]

SUPPORTED = "2.6 or later, tested up to 2.13"


def _found(path: str) -> Callable[..., Any]:
    """A function of torch by its private path."""
    found: Any = torch
    for name in path.split("."):
        if not hasattr(found, name):
            raise RuntimeError(
                f"`torch.{path}` is missing in the installed torch {torch.__version__}. keras_addons_l6 relies on it "
                f"and supports torch {SUPPORTED}: install one of these, or a newer keras_addons_l6."
            )
        found = getattr(found, name)
    return found


# One call for many tensors; public are only torch's optimizers around them, with other formulas.
foreach_add = _found("_foreach_add")
foreach_add_ = _found("_foreach_add_")
foreach_copy_ = _found("_foreach_copy_")
foreach_div = _found("_foreach_div")
foreach_maximum = _found("_foreach_maximum")
foreach_mul = _found("_foreach_mul")
foreach_sqrt = _found("_foreach_sqrt")
foreach_sub = _found("_foreach_sub")

# One pass over memory for a whole step; likewise.
fused_adam_ = _found("_fused_adam_")
fused_adagrad_ = _found("_fused_adagrad_")
fused_sgd_ = _found("_fused_sgd_")

# Which backward pass runs, -1 for none; checkpointing itself asks so, and there is no public question for it.
backward_pass = _found("_C._current_graph_task_id")

# Whether `torch.func` is at work on a tensor; there is no public question for it.
is_in_functorch = _found("_C._functorch.is_functorch_wrapped_tensor")
