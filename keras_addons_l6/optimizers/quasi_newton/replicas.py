"""Runs an update once for all replicas of data-parallel training, on the sum of what they found."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_addons_l6.backends.portable import Tensor

__all__ = ["Update", "run_once"]

Update = Callable[[Sequence[Tensor], Tensor | None], None]


def run_once(update: Update, gradients: Sequence[Tensor], value: Tensor | None) -> None:
    """Call `update(gradients, value)` with the whole batch's gradients and value.

    * TensorFlow: under a `tf.distribute` strategy each replica holds its share of both (Keras divides the
      loss by the number of replicas): they are added up, and the update runs in the cross-replica context,
      where all copies of a variable are written.
    * Torch: `DistributedDataParallel` has averaged the gradients; the value is averaged here.
    * JAX: arrays are global.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        _run_once_tensorflow(update, gradients, value)
    elif backend == "torch" and value is not None:
        update(gradients, _mean_over_processes(value))
    else:
        update(gradients, value)


def _run_once_tensorflow(update: Update, gradients: Sequence[Tensor], value: Tensor | None) -> None:
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if not tf.distribute.has_strategy() or replica is None:
        update(gradients, value)
        return
    # TensorFlow packs what it adds up into one tensor, so a list of two dtypes is refused.
    total = list(gradients) if value is None else [*gradients, value]
    for dtype in dict.fromkeys(x.dtype for x in total):
        members = [i for i, x in enumerate(total) if x.dtype == dtype]
        reduced = replica.all_reduce(tf.distribute.ReduceOp.SUM, [total[i] for i in members])
        for i, x in zip(members, reduced, strict=True):
            total[i] = x

    def merge(strategy: Any, total: Sequence[Tensor]) -> None:
        here = [strategy.experimental_local_results(x)[0] for x in total]
        update(here[: len(gradients)], None if value is None else here[-1])

    replica.merge_call(merge, args=(total,))


def _mean_over_processes(value: Tensor) -> Tensor:
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    mean = value.detach().clone()
    torch.distributed.all_reduce(mean)
    return mean / torch.distributed.get_world_size()
