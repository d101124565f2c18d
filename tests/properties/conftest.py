"""How many examples each property is tried on: few for every change, many under `full`."""

from hypothesis import HealthCheck, Phase, settings

FOR_EVERY_CHANGE, IN_FULL = 6, 150


def pytest_configure(config):
    """Fix the examples, so that a run depends on the code alone; no deadline, for XLA compiles."""
    for name, examples in (("every change", FOR_EVERY_CHANGE), ("full", IN_FULL)):
        settings.register_profile(
            name,
            derandomize=True,
            max_examples=examples,
            deadline=None,
            database=None,
            # Failing examples are drawn small already; to shrink one of them takes minutes of compiling.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
    full = "full" in config.option.markexpr.replace("not full", "", 1)
    settings.load_profile("full" if full else "every change")
