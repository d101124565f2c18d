"""Lets the tests of this folder share compiled programs: many of them compile the same one."""

import keras
import pytest


@pytest.fixture(scope="package", autouse=True)
def _compiled_once(tmp_path_factory):
    """Let JAX keep compiled programs in a folder of this run; compiling is most of the time otherwise."""
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.3,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
