"""What CS231n's lecture 6 says about optimizers, as tests.

Where the lecture's sentence holds only under a condition, the test shows the condition.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp
from tests.optimizers.driving import FASTEST, follow

CURVATURES = np.array([1.0, 10.0, 0.1])
START = np.array([1.0, -2.0, 3.0])


def gradient(x):
    """Of f(x) = sum(c x^2) / 2: badly conditioned, as in the lecture's figures."""
    return CURVATURES * x


def descend(optimizer, steps, l2=0.0):
    """x after each step of an optimizer on f, with l2 * |x|^2 added to the loss."""
    x = keras.Variable(START, dtype="float64")
    path = []
    for _ in range(steps):
        at = np.array(ops.convert_to_numpy(x))
        optimizer.apply([ops.convert_to_tensor(gradient(at) + 2 * l2 * at)], [x])
        path.append(np.array(ops.convert_to_numpy(x)))
    return np.stack(path)


@pytest.mark.usefixtures("float64")
class TestMomentum:
    """ "You may see SGD+Momentum formulated different ways, but they are equivalent"."""

    def test_both_formulations_give_the_same_sequence(self):
        rho, rate = 0.9, 0.05
        vx, x, wx, y = 0.0, START, 0.0, START
        first, second = [], []
        for _ in range(50):
            vx = rho * vx + gradient(x)
            x = x - rate * vx
            first.append(x)
            wx = rho * wx - rate * gradient(y)
            y = y + wx
            second.append(y)
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-12)
        # Keras's SGD is the second one; it takes 0.9 through float32 on TensorFlow.
        path = descend(keras.optimizers.SGD(rate, momentum=rho), 50)
        np.testing.assert_allclose(path, second, rtol=1e-5, atol=1e-5)

    def test_they_part_when_the_rate_changes(self):
        rho, rates = 0.9, [0.05] * 5 + [0.005] * 5
        vx, x, wx, y = 0.0, START, 0.0, START
        for rate in rates:
            vx = rho * vx + gradient(x)
            x = x - rate * vx
            wx = rho * wx - rate * gradient(y)
            y = y + wx
        assert np.max(np.abs(x - y)) > 0.1

    def test_nesterov_is_the_look_ahead_after_a_change_of_variables(self):
        # The lecture: v = rho v - a grad f(x + rho v), x = x + v; ours runs in x~ = x + rho v.
        rho, rate = 0.9, 0.05
        x, v = START, np.zeros(3)
        looking_ahead = []
        for _ in range(50):
            v = rho * v - rate * gradient(x + rho * v)
            x = x + v
            looking_ahead.append(x + rho * v)
        path = descend(Nesterov(rate, momentum=rho), 50)
        np.testing.assert_allclose(path, looking_ahead, rtol=1e-12, atol=1e-12)

    def test_both_forms_of_the_change_of_variables(self):
        # x~ - rho v + (1 + rho) v' = x~ + v' + rho (v' - v)
        rho, rate = 0.9, 0.05
        x, v = START, np.zeros(3)
        second = []
        for _ in range(50):
            v_next = rho * v - rate * gradient(x)
            x, v = x + v_next + rho * (v_next - v), v_next
            second.append(x)
        np.testing.assert_allclose(descend(Nesterov(rate, momentum=rho), 50), second, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
class TestRegularization:
    """ "L2 Regularization and Weight Decay are equivalent for SGD, SGD+Momentum"."""

    L2 = 0.05

    def test_without_momentum_they_are(self):
        # L2 with weight l is decay with 2 l: Keras's decoupled decay takes a 2 l x off as the gradient would.
        by_loss = descend(Nesterov(0.05, momentum=0.0), 50, l2=self.L2)
        by_decay = descend(Nesterov(0.05, momentum=0.0, weight_decay=2 * self.L2), 50)
        np.testing.assert_allclose(by_decay, by_loss, rtol=1e-12, atol=1e-12)

    def test_with_momentum_only_coupled_decay_is(self):
        # Coupled, as PyTorch's SGD: 2 l x goes through the velocity with the gradient.
        rho, rate = 0.9, 0.05
        x, v, coupled = START, np.zeros(3), []
        for _ in range(50):
            v_next = rho * v - rate * (gradient(x) + 2 * self.L2 * x)
            x, v = x - rho * v + (1 + rho) * v_next, v_next
            coupled.append(x)
        by_loss = descend(Nesterov(rate, momentum=rho), 50, l2=self.L2)
        np.testing.assert_allclose(coupled, by_loss, rtol=1e-12, atol=1e-12)

    def test_with_momentum_decoupled_decay_is_not(self):
        # No strength of decoupled decay does what L2 does: a scan finds none near, the naive one is far.
        by_loss = descend(Nesterov(0.05), 50, l2=1.0)

        def gap(weight_decay):
            return np.max(np.abs(descend(Nesterov(0.05, weight_decay=weight_decay), 50) - by_loss))

        gaps = [gap(wd) for wd in np.linspace(0.0, 20.0, 21)]
        print(f"decay 2 l: {gap(2.0):.3g}, the best of {len(gaps)}: {min(gaps):.3g}")
        assert min(gaps) > 0.1

    @pytest.mark.parametrize("optimizer", [AdaGrad, RMSProp, Adam])
    def test_for_adaptive_methods_they_differ(self, optimizer):
        # "But they are not the same for adaptive methods (AdaGrad, RMSProp, Adam, etc)"
        by_loss = descend(optimizer(0.05), 50, l2=self.L2)
        by_decay = descend(optimizer(0.05, weight_decay=2 * self.L2), 50)
        assert np.max(np.abs(by_loss - by_decay)) > 0.01

    def test_adamw_is_adam_with_weight_decay(self):
        adam = descend(Adam(0.05, weight_decay=0.1, epsilon=1e-8), 50)
        np.testing.assert_array_equal(descend(AdamW(0.05, weight_decay=0.1), 50), adam)


class TestAdaptiveSteps:
    def test_adagrad_s_step_decays_to_zero(self):
        # "What happens to the step size over long time? Decays to zero": under g = 1 it is a / sqrt(t).
        path = follow(AdaGrad(0.1), np.zeros(1), np.ones((1000, 1)), FASTEST)[:, 0]
        steps = -np.diff(path, prepend=0.0)
        t = np.arange(1, 1001)
        # x reaches 6.2: its rounding is 2.4e-7, of a step of 0.003.
        np.testing.assert_allclose(steps, 0.1 / np.sqrt(t), atol=5e-7)

    def test_rmsprop_s_does_not(self):
        # "Leaky AdaGrad": the step settles at a.
        path = follow(RMSProp(0.1), np.zeros(1), np.ones((1000, 1)), FASTEST)[:, 0]
        np.testing.assert_allclose(-np.diff(path)[-100:], 0.1, rtol=1e-4)  # x = 100 rounds by 4e-6

    @pytest.mark.parametrize("optimizer", [AdaGrad, RMSProp, Adam])
    def test_steep_and_flat_directions_step_alike(self, optimizer):
        # "Progress along steep directions is damped; progress along flat directions is accelerated"
        g = np.tile([100.0, 0.01], (20, 1))
        path = follow(optimizer(0.1), np.zeros(2), g)
        np.testing.assert_allclose(path[:, 0], path[:, 1], rtol=4e-5)  # epsilon, of sqrt(s) = 0.003


class TestAdamsFirstStep:
    """ "Q: What happens at first timestep?" of Adam (almost), without bias correction."""

    GRADIENTS = np.array([[1e-3, -1.0, 1e3]])

    def test_with_bias_correction_it_is_the_rate(self):
        step = follow(Adam(0.01), np.zeros(3), self.GRADIENTS)[0]
        np.testing.assert_allclose(step, -0.01 * np.sign(self.GRADIENTS[0]), rtol=2e-4)  # eps / 1e-3

    def test_without_it_is_three_times_as_large(self):
        # (1 - b1) g / sqrt((1 - b2) g^2) = 0.1 / sqrt(0.001) = 3.16: momentum's small start is no match for
        # the second moment's smaller one.
        g = self.GRADIENTS[0]
        almost = -0.01 * (0.1 * g) / (np.sqrt(0.001 * g * g) + 1e-7)
        full = follow(Adam(0.01), np.zeros(3), self.GRADIENTS)[0]
        np.testing.assert_allclose(almost / full, 0.1 / np.sqrt(0.001), rtol=4e-3)


def test_sgd_stops_at_a_saddle_and_momentum_rolls_through():
    # "Zero gradient, gradient descent gets stuck"; with velocity it does not.
    optimizer = Nesterov(0.1, momentum=0.9)
    x = keras.Variable([1.0], dtype="float32")
    optimizer.apply([ops.convert_to_tensor([1.0])], [x])
    before = float(ops.convert_to_numpy(x)[0])
    optimizer.apply([ops.zeros(1)], [x])
    assert float(ops.convert_to_numpy(x)[0]) < before
    plain = Nesterov(0.1, momentum=0.0)
    plain.apply([ops.zeros(1)], [x])
    stuck = float(ops.convert_to_numpy(x)[0])
    plain.apply([ops.zeros(1)], [x])
    assert float(ops.convert_to_numpy(x)[0]) == stuck
