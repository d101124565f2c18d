"""Training over eight virtual devices with `keras.distribution` takes the single-device path."""

import keras
import pytest

from tests.distribution import problem, worker

EIGHT_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}

pytestmark = pytest.mark.skipif(keras.config.backend() != "jax", reason="keras.distribution runs on JAX")


@pytest.fixture(scope="module", params=["data", "model"])
def trainings(request):
    """What the trainings under DataParallel or ModelParallel print."""
    (results,) = worker.run("jax_devices", request.param, environments=[EIGHT_DEVICES])
    return request.param, results


def trained(results):
    """The results of what was trained, and not refused."""
    return {name: result for name, result in results.items() if "refused" not in result}


def test_every_optimizer_and_batch_norm_take_the_single_device_path(trainings):
    _, results = trainings
    assert set(results) == {"Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS", "BFGS", "BatchNorm"}
    for name, result in trained(results).items():
        worker.assert_same_path(name, result)


def test_a_dense_inverse_hessian_wants_whole_variables(trainings):
    """Under ModelParallel BFGS refuses in a sentence that names what takes such a layout."""
    kind, results = trainings
    if kind == "model":
        assert "Use `LBFGS`" in results["BFGS"]["refused"]
        assert "hidden/kernel" in results["BFGS"]["refused"]
    assert set(results) - set(trained(results)) == ({"BFGS"} if kind == "model" else set())


def test_no_device_holds_all_of_a_sharded_kernel_or_of_its_state(trainings):
    """Under ModelParallel each device has a quarter of the kernel, its slots and curvature pairs."""
    kind, results = trainings
    for name, result in trained(results).items():
        assert result["copies"] > 1, f"{name}: no state of the kernel's shape was found"
        assert result["share"] == (0.25 if kind == "model" else 1.0), name


def test_two_processes_take_the_single_process_path(float64):
    (port,) = worker.free_ports(1)
    one_device = {"JAX_PLATFORMS": "cpu", "COORDINATOR": f"127.0.0.1:{port}"}
    environments = [{**one_device, "PROCESS": process} for process in "01"]
    first, second = worker.run("jax_processes", environments=environments)
    for name, make in problem.OPTIMIZERS.items():
        worker.assert_same_path(name, {**first[name], "alone": problem.flat(problem.fitted(make()))})
        assert first[name] == second[name], f"{name}: the processes' weights differ"


def test_a_watched_training_on_two_devices_is_the_same_to_the_bit():
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    (result,) = worker.run("watched", environments=[two])
    assert result == {"same": True, "looks": 4, "missing": 0}
