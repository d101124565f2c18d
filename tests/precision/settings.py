"""All that the switch may touch, read independently of it."""

import importlib

import keras


def keras_modules():
    """Keras's tables of types, and the backend's modules in which functions are replaced."""
    package = importlib.import_module("keras.src.backend")
    package = getattr(package, "ops", package)
    return importlib.import_module("keras.src.backend.common.dtypes"), package.core, package.nn


def jax_x64():
    if keras.config.backend() != "jax":
        return None
    import jax

    return jax.config.jax_enable_x64


def snapshot():
    """What stands where: the order of tables, the identity of functions, the policy that nobody asked for."""
    dtypes, core, nn = keras_modules()
    state = importlib.import_module("keras.src.backend.common.global_state")
    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "policy": state.get_global_attribute("dtype_policy"),
        "x64": jax_x64(),
        "tables": [list(table.items()) for table in (dtypes.BIT64_TO_BIT32_DTYPE, dtypes.PYTHON_DTYPES_MAP)],
        "names": [
            {name: id(value) for name, value in vars(module).items() if not name.startswith("__")}
            for module in (dtypes, core, nn, keras.ops)
        ],
    }
