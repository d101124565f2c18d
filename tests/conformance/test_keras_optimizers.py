"""Keras's own optimizer tests, run on our optimizers."""

import re

from tests.conformance.deselections import OPTIMIZERS_DIFFER
from tests.conformance.keras_modules import run_on_ours
from tests.conformance.optimizer_adapters import OPTIMIZERS, get_optimizer

# Tests over all of Keras's optimizers: by name, and by number in a list that has ours first.
OTHERS = re.compile(
    r"_(adadelta|adafactor|adamax|ftrl|lion|nadam|scatter_update)$"
    r"|^test_(gradient_accumulation_with_weigth_decay|pickleable_optimizers)([5-9]|1\d)$"
)


def concerns_ours(test):
    """Whether a test runs one of the five optimizers that we replace."""
    return not OTHERS.search(test)


BY_NAMESPACE = {f"optimizers.{name}": ours for name, ours in OPTIMIZERS.items()}
BY_NAMESPACE["optimizers.get"] = get_optimizer

for name, ours in OPTIMIZERS.items():
    globals().update(run_on_ours(f"optimizers.{name.lower()}_test", {name: ours}, OPTIMIZERS_DIFFER))
for module in ("optimizer_test", "optimizer_sparse_test", "multi_optimizer_test"):
    globals().update(run_on_ours(f"optimizers.{module}", BY_NAMESPACE, OPTIMIZERS_DIFFER, concerns_ours))
globals().update(
    run_on_ours("optimizers.loss_scale_optimizer_test", {"SGD": OPTIMIZERS["SGD"]}, OPTIMIZERS_DIFFER)
)
