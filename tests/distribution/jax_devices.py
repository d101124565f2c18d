"""Run by test_jax.py: trains on one and on eight virtual devices, and prints both ends as JSON."""

import json
import sys

import keras

from tests.distribution import problem


def largest_share(model, optimizer):
    """Of the sharded kernel and of every state as large: the largest fraction one device holds."""
    kernel = model.get_layer("hidden").kernel
    of_its_size = [kernel, *(v for v in optimizer.variables if _is_a_copy(v, kernel))]
    return max(v.value.addressable_shards[0].data.size / v.value.size for v in of_its_size), len(of_its_size)


def _is_a_copy(variable, kernel):
    """Whether a state variable holds the kernel's numbers, once or (in a history) several times."""
    return tuple(variable.shape[-kernel.ndim :]) == tuple(kernel.shape)


def data_parallel():
    """Eight devices, each with an eighth of the batch."""
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices("cpu"))


def model_parallel():
    """Two devices for the batch times four for the hidden layer's units."""
    mesh = keras.distribution.DeviceMesh((2, 4), ["batch", "model"], keras.distribution.list_devices("cpu"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*hidden/kernel"] = (None, "model")
    layouts[".*hidden/bias"] = ("model",)
    layouts[".*answer/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def refusal(make):
    """What a training says that cannot be: the inverse Hessian couples all components of all variables."""
    try:
        problem.fitted(make())
    except ValueError as error:
        return str(error)
    return None


def main(kind):
    """Print, by optimizer, the weights on one device and on eight."""
    problem.use_float64()
    cases = {name: (make, None) for name, make in problem.OPTIMIZERS.items()}
    cases["BatchNorm"] = problem.OPTIMIZERS["Adam"], problem.batch_norm
    alone = {
        name: problem.flat(problem.fitted(make(), layer and layer())) for name, (make, layer) in cases.items()
    }
    keras.distribution.set_distribution({"data": data_parallel, "model": model_parallel}[kind]())
    results = {}
    if kind == "model":
        make, _ = cases.pop("BFGS")
        results["BFGS"] = {"refused": refusal(make)}
    for name, (make, layer) in cases.items():
        model = problem.fitted(make(), layer and layer())
        share, copies = largest_share(model, model.optimizer)
        results[name] = {
            "alone": alone[name],
            "spread": problem.flat(model),
            "share": share,
            "copies": copies,
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
