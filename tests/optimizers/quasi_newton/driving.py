"""Runs the method by hand, one evaluation a step, on NumPy or on the backend's tensors."""

import types

import keras
import numpy as np

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.iteration import Settings


class Run:
    """A run of the method on an objective that computes in NumPy, and what it left behind: points tried, values accepted.

    Every number of the state is an attribute.

    Args:
        objective: From a list of arrays to the value and the list of gradients.
        start: A list of arrays.
        dtype: Of the parameters and the scalars.
        with_values: Whether the method is given the values.
        on_backend: Whether it runs on the backend's tensors, compiled, or on NumPy.
        settings: The method's settings by name.
    """

    def __init__(self, objective, start, dtype="float64", with_values=True, on_backend=False, **settings):
        self.objective, self.with_values = objective, with_values
        self.convert = keras.ops.convert_to_tensor if on_backend else np.array
        self.trial = tuple(self.convert(np.asarray(x, dtype)) for x in start)
        self.arrays = arrays_for(self.trial) if on_backend else NumpyArrays(dtype)
        settings = Settings(**settings)
        self.state = iteration.init(self.arrays, settings, self.trial)

        def step(state, trial, gradient, *value):
            with self.arrays.scope():
                return iteration.step(self.arrays, settings, state, trial, gradient, *value)

        # JAX would compile the branches of a step anew each time; elsewhere compiling costs more than it saves here.
        compiles = on_backend and keras.config.backend() == "jax"
        self.take_step = programs.compile_program(step) if compiles else step
        self.tried, self.values, self.without_values = [], [], False

    def __getattr__(self, name):
        """A number of the state by name."""
        return np.asarray(to_numpy(iteration.read(self.state, name)))[()]

    @property
    def point(self):
        return [to_numpy(x) for x in self.state.point]

    def advance(self, steps=10_000):
        """Take steps until the run ends, at most so many; gives the run."""
        for _ in range(steps):
            if self.status not in iteration.ACTIVE:
                break
            self.step()
        return self

    def step(self):
        """One evaluation and one step."""
        where = [to_numpy(x) for x in self.trial]
        value, gradient = self.objective(where)
        with np.errstate(over="ignore"):  # a trial that overflows float32 is a case like any other
            value = np.asarray(value, self.arrays.real)
            gradient = tuple(
                self.convert(np.asarray(g, x.dtype)) for g, x in zip(gradient, where, strict=True)
            )
        before = self.iterations
        self.state, self.trial = self.take_step(
            self.state, self.trial, gradient, *([self.convert(value)] if self.with_values else [])
        )
        self.tried.append(where)
        self.without_values |= bool(self.slopes_only > 0)
        if self.iterations > before or len(self.tried) == 1:
            self.values.append(value[()])


def to_numpy(x):
    return np.array(keras.ops.convert_to_numpy(x))


def objective_of(problem, dtype="float64"):
    """A problem's value and gradient by the backend's differentiation, from and to NumPy."""
    evaluate = programs.compile_program(
        programs.value_and_gradient(lambda x: (problem.value(functions(), x[0]), keras.ops.zeros(())))
    )

    def objective(where):
        value, gradient, _ = evaluate([keras.ops.convert_to_tensor(np.asarray(where[0], dtype))])
        return to_numpy(value)[()], [to_numpy(gradient[0])]

    return objective


def functions():
    """Array functions that keep float64: Keras's, but on torch its `matmul` and some others round to float32."""
    if keras.config.backend() != "torch":
        return keras.ops
    import torch

    names = ("abs", "arctan2", "concatenate", "cos", "exp", "log", "matmul", "prod", "reshape")
    names += ("sin", "sqrt", "stack", "sum", "tanh", "where")
    return types.SimpleNamespace(
        array=torch.asarray, max=torch.amax, **{name: getattr(torch, name) for name in names}
    )


def complex_step(problem):
    """A problem's value and gradient in NumPy, for one that is analytic: f'(x) = Im f(x + ih) / h, h far below rounding."""
    h = 1e-100

    def objective(where):
        (x,) = where
        shifted = np.asarray(x, "float64") + 1j * h * np.eye(x.size)
        with np.errstate(all="ignore"):
            gradient = np.array([problem.value(np, row).imag / h for row in shifted])
            return problem.value(np, np.asarray(x, "float64")), [gradient.reshape(x.shape)]

    return objective
