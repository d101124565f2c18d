"""`StopWhenConverged`: ends `fit`, adds to logs, shows validation the accepted point, minds Ctrl-C."""

import signal
import threading

import keras
import numpy as np
import pytest

from keras_addons_l6 import LBFGS, StopWhenConverged
from keras_addons_l6.optimizers.quasi_newton.callbacks import FiniteValues
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from tests.optimizers.quasi_newton.models import QUICK, curve, fit, model_of_logarithms, network

# Keras's variables on NumPy 2; `pytest.warns` emits it again without the module that it came from.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def line(**arguments):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=LBFGS(gradient_tolerance=1e-4, **arguments), loss="mse", **QUICK)
    x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    return model, x, 3 * x + 1


class TestStopping:
    def test_it_stops_says_why_and_fills_the_logs(self, capsys):
        model, x, y = line()
        stop = StopWhenConverged(verbose=1)
        history = fit(model, x, y, 50, [stop])
        assert len(history.epoch) < 15
        assert (
            stop.status
            == model.optimizer.status
            == "converged: no component of the gradient exceeds gradient_tolerance"
        )
        assert f"Epoch {len(history.epoch)}: converged" in capsys.readouterr().out
        assert history.history["evaluations"] == list(range(1, len(history.epoch) + 1))
        assert history.history["iterations_accepted"][-1] == model.optimizer.iterations_accepted
        assert history.history["gradient_norm"][-1] <= 1e-4 < history.history["gradient_norm"][0]

    def test_silent_as_fit_is_told(self, capsys):
        model, x, y = line()
        fit(model, x, y, 50, [StopWhenConverged()])
        assert capsys.readouterr().out == ""
        fit(model, x, y + 1, 50, [StopWhenConverged()], verbose=2)
        assert "converged: no component" in capsys.readouterr().out

    def test_it_says_that_the_epochs_were_too_few(self, capsys):
        x, y = curve()
        fit(network(LBFGS()), x, y, 3, [StopWhenConverged(verbose=1)])
        assert "Epoch 3: running when `fit` ended" in capsys.readouterr().out

    def test_a_run_that_stalls_stops_too_and_is_not_called_converged(self):
        x, y = curve()
        model = network(LBFGS(change_tolerance=10.0))
        stop = StopWhenConverged(verbose=0)
        fit(model, x, y, 50, [stop])
        assert stop.status.startswith("stalled")
        assert not model.optimizer.converged

    def test_a_start_without_a_loss_raises_in_the_first_epoch(self):
        model, x, y = line()
        epochs = []
        count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
        with pytest.raises(ValueError, match="infinite or NaN"):
            fit(model, x, np.full_like(y, np.nan), 5, [StopWhenConverged(), count])
        assert epochs == [0]

    def test_another_optimizer_is_refused(self):
        x, y = curve()
        with pytest.raises(ValueError, match="must be LBFGS"):
            fit(network("sgd"), x, y, 1, [StopWhenConverged()])

    def test_it_finds_lbfgs_in_a_wrapper(self):
        x, y = curve()
        model = network(keras.optimizers.LossScaleOptimizer(LBFGS(gradient_tolerance=1.0)))
        with pytest.warns(UserWarning, match="slopes alone"):
            history = fit(model, x, y, 30, [StopWhenConverged(verbose=0)])
        assert len(history.epoch) < 30


class TestUntrainedState:
    def test_no_trial_leaves_behind_what_is_not_finite(self):
        """Validation, which comes before the end of an epoch, sees none of it either."""
        model, x, y = model_of_logarithms(LBFGS())
        losses = fit(model, x, y, 60, [StopWhenConverged()], validation_data=(x, y)).history
        assert not np.isfinite(losses["loss"]).all(), "no trial was infinite"
        assert np.isfinite(losses["val_loss"]).all()
        assert np.isfinite(model.predict(x, verbose=0)).all()

    def test_finite_values_follow_their_variables(self):
        model, _, _ = model_of_logarithms(LBFGS())
        mean = model.layers[1].moving_mean
        kept = FiniteValues(model)
        for value, expected in ((2.0, 2.0), (float("nan"), 2.0), (float("inf"), 2.0), (3.0, 3.0)):
            mean.assign([value])
            kept.keep_or_put_back()
            assert model.layers[1].get_weights()[2] == expected


class TestValidation:
    @pytest.mark.parametrize("accepted", [True, False])
    def test_validation_sees_the_accepted_point(self, accepted):
        x, y = curve()
        model = network(LBFGS())
        values = []
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: values.append(float(model.optimizer._slots.number("value")))
        )
        stop = StopWhenConverged(validate_accepted=accepted, verbose=0)
        history = fit(model, x, y, 12, [stop, note], validation_data=(x, y))
        same = np.isclose(history.history["val_loss"], values, rtol=1e-4)
        assert np.all(same) if accepted else not np.any(same[:-1])

    def test_the_path_is_the_one_without_validation(self):
        x, y = curve()
        with_validation, without = network(LBFGS()), network(LBFGS())
        fit(with_validation, x, y, 12, [StopWhenConverged(verbose=0)], validation_data=(x, y))
        fit(without, x, y, 12)
        for a, b in zip(with_validation.get_weights(), without.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


class TestBatches:
    def test_several_batches_an_epoch_are_warned_about(self):
        model, x, y = line()
        with pytest.warns(UserWarning, match="An epoch has 4 batches.*gradient_accumulation_steps=4"):
            fit(model, x, y, 1, [StopWhenConverged(verbose=0)], batch_size=8)

    def test_accumulation_that_does_not_divide_is_warned_about(self):
        model, x, y = line(gradient_accumulation_steps=3)
        with pytest.warns(UserWarning, match="An epoch has 4 batches, but LBFGS takes 3"):
            fit(model, x, y, 1, [StopWhenConverged(verbose=0)], batch_size=8)

    def test_accumulation_that_divides_is_fine(self):
        model, x, y = line(gradient_accumulation_steps=4)
        fit(model, x, y, 30, [StopWhenConverged(verbose=0)], batch_size=8)
        assert model.optimizer.converged

    def test_a_repeated_full_batch_is_fine_when_said(self):
        model, x, y = line()
        repeated = [np.concatenate([a] * 4) for a in (x, y)]
        stop = StopWhenConverged(repeats_full_batch=True, verbose=0)
        fit(model, *repeated, 10, [stop], batch_size=len(x))
        assert model.optimizer.converged

    def test_dropout_is_warned_about(self):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        x, y = curve()
        with pytest.warns(UserWarning, match="draw random numbers") as caught:
            fit(model, x, y, 3, [StopWhenConverged(verbose=0)])
        assert len([w for w in caught if "random numbers" in str(w.message)]) == 1

    def test_layers_with_a_seed_that_draw_nothing(self):
        """Warnings are errors here."""
        model = keras.Sequential([keras.Input((3, 1)), keras.layers.LSTM(2), keras.layers.Dropout(0.0)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        x = np.linspace(-1, 1, 15).reshape(5, 3, 1)
        fit(model, x, np.zeros((5, 2)), 3, [StopWhenConverged()])


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C; a process that a shell starts in the background inherits none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
class TestInterrupts:
    def test_ctrl_c_leaves_the_accepted_point_and_is_raised(self):
        x, y = curve()
        model = network(LBFGS())
        for epoch in (3, 4, 5, 6):  # some within a search
            press = keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda e, logs, at=epoch: e == at and signal.raise_signal(signal.SIGINT)
            )
            with pytest.raises(KeyboardInterrupt):
                fit(model, x, y, 20, [StopWhenConverged(verbose=0), press])
            accepted = float(model.optimizer._slots.number("value"))
            assert model.evaluate(x, y, verbose=0) == pytest.approx(accepted, rel=1e-5)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_ctrl_c_after_a_failed_fit_is_not_swallowed(self):
        model, x, y = line()

        def fail(epoch, logs):
            raise RuntimeError

        with pytest.raises(RuntimeError):
            fit(model, x, y, 2, [StopWhenConverged(), keras.callbacks.LambdaCallback(on_epoch_begin=fail)])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_fit_after_a_failed_one_defers_again(self):
        x, y = curve()
        model, other = network(LBFGS()), network(LBFGS())
        with pytest.raises(ValueError, match="infinite"):
            fit(other, x, np.full_like(y, np.nan), 2, [StopWhenConverged()])
        press = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: epoch == 3 and signal.raise_signal(signal.SIGINT)
        )
        with pytest.raises(KeyboardInterrupt):
            fit(model, x, y, 20, [StopWhenConverged(verbose=0), press])
        assert model.optimizer.evaluations == 4  # the epoch that was running was finished

    def test_a_second_ctrl_c_is_immediate(self):
        with DeferredInterrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert interrupt.requested
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            interrupt.requested = False

    def test_a_program_s_own_handler_is_left_alone(self):
        seen = []
        before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
        try:
            with DeferredInterrupt() as interrupt:
                signal.raise_signal(signal.SIGINT)
            assert seen
            assert not interrupt.requested
        finally:
            signal.signal(signal.SIGINT, before)

    def test_other_threads_are_left_alone(self):
        result = []
        thread = threading.Thread(target=lambda: result.append(DeferredInterrupt().__enter__().requested))
        thread.start()
        thread.join()
        assert result == [False]

    def test_another_exception_goes_first(self):
        with pytest.raises(RuntimeError), DeferredInterrupt():
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError
