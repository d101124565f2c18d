"""Normalization in blocks gives what the portable operation gives, wherever the blocks are cut."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "torch":
    pytest.skip("blocks are of torch's CPU", allow_module_level=True)

import torch

from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.torch import blocks as blocks_torch
from keras_addons_l6.backends.torch import layers as native
from keras_addons_l6.backends.torch import rows as rows_torch

CASES = {
    "batch, channels last": ((5, 6, 7, 4), {"axis": 3}, "batch_norm"),
    "batch, channels first": ((5, 4, 7, 6), {"axis": 1}, "batch_norm"),
    "batch, a matrix": ((30, 4), {"axis": 1}, "batch_norm"),
    "groups, channels last": ((5, 6, 7, 4), {"axis": 3, "groups": 2}, "group_norm"),
    "groups, channels first": ((5, 4, 7, 6), {"axis": 1, "groups": 2}, "group_norm"),
    "instances": ((3, 9, 4), {"axis": 2, "groups": 4}, "group_norm"),
    "layer, one axis": ((5, 6, 7, 4), {"axes": (3,)}, "layer_norm"),
    "layer, two axes": ((5, 6, 7, 4), {"axes": (2, 3)}, "layer_norm"),
    "layer, far from zero": ((5, 6, 7, 4), {"axes": (2, 3)}, "layer_norm"),
}
# Weights of x of shape (5, 6, 7, 4): one, one a channel, along an axis in the middle, one an element of a sample.
WEIGHTS = ((), (4,), (1, 1, 4), (6, 1, 1), (6, 7, 4))
# Of the 840 elements of a tensor here: one element, part of a sample, two samples and a rest, everything.
BLOCKS = (1, 60, 350, 10_000)


def gradients(kernel, name, x, gamma, beta, settings, dy):
    x, gamma, beta = (t.clone().requires_grad_() for t in (x, gamma, beta))
    y = getattr(kernel, name)(x, gamma, beta, epsilon=1e-3, **settings)
    y, *extra = (y[0], *y[1]) if name == "batch_norm" else (y,)
    first = torch.autograd.grad(y, (x, gamma, beta), dy, retain_graph=True)
    again = torch.autograd.grad(y, (x, gamma, beta), dy, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in again), (x, gamma))
    return [y.detach(), *extra, *first, *(g.detach() for g in again), *second]


@pytest.mark.parametrize("memory", ["contiguous", "transposed"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("case", CASES)
def test_blocks_change_nothing(case, block, memory, monkeypatch):
    shape, settings, name = CASES[case]
    monkeypatch.setattr(blocks_torch, "BLOCK", block)
    monkeypatch.setattr(rows_torch, "FEW_ROWS", block)
    rng = np.random.default_rng(0)
    x, dy = (torch.as_tensor(rng.normal(size=shape)) for _ in range(2))
    x = x + (100.0 if "far" in case else 0.0)
    weights = [shape[a] for a in settings.get("axes", ())] or [4]
    gamma, beta = (torch.as_tensor(rng.normal(size=weights)) for _ in range(2))
    if memory == "transposed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    found = gradients(native, name, x, gamma, beta, settings, dy)
    expected = gradients(portable, name, x, gamma, beta, settings, dy)
    for a, b in zip(found, expected, strict=True):
        # float64: sums of up to 210 terms of order one, in another order.
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("memory", ["contiguous", "transposed"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("name", ["prelu", "swish"])
def test_activations_in_blocks(name, weights, block, memory, monkeypatch):
    monkeypatch.setattr(blocks_torch, "BLOCK", block)
    rng = np.random.default_rng(1)
    x, dy = (torch.as_tensor(rng.normal(size=(5, 6, 7, 4))) for _ in range(2))
    w = torch.as_tensor(rng.uniform(0.5, 1.5, size=weights))
    if memory == "transposed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)

    def gradients(kernel):
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        y = getattr(kernel, name)(*leaves)
        first = torch.autograd.grad(y, leaves, dy, retain_graph=True)
        again = torch.autograd.grad(y, leaves, dy, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in again), leaves)
        return [y.detach(), *first, *(g.detach() for g in again), *second]

    for a, b in zip(gradients(native), gradients(portable), strict=True):
        # float64: sums of up to 840 terms of order one, in another order.
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "needed", [(True, False, False), (False, True, False), (False, False, True)], ids=str
)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("few", [0, 10_000])
def test_a_gradient_asked_for_alone(few, mean, needed, monkeypatch):
    monkeypatch.setattr(rows_torch, "FEW_ROWS", few)
    leaves = [torch.randn(size, dtype=torch.float64) for size in ((30, 16), (16,), (16,))]
    leaves[0] += mean
    for leaf, needs in zip(leaves, needed, strict=True):
        leaf.requires_grad_(needs)
    wanted, dy = leaves[needed.index(True)], torch.randn(30, 16, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(kernel.layer_norm(*leaves, axes=[1], epsilon=1e-3), wanted, dy)[0]
        for kernel in (native, portable)
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("mean", "centred"), [(1.9, True), (-1.9, True), (2.1, False), (-2.1, False)])
def test_rows_go_to_the_kernel_as_they_are_up_to_a_mean_of_two_deviations(mean, centred):
    x = torch.randn(64, 512, dtype=torch.float64)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True) + mean
    leaf = x.float().requires_grad_()
    y = native.layer_norm(leaf, None, None, axes=[1], epsilon=1e-9)
    shift = y.grad_fn.saved_tensors[3]
    assert (shift is None) == centred
    # float32: a few roundings of values up to 6, with the kernel and without
    torch.testing.assert_close(y.detach().double(), x - mean, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "x", [4e18 * torch.randn(4, 64), torch.full((4, 64), 3.0), torch.full((4, 64), torch.inf)]
)
def test_rows_that_the_kernel_cannot_square_are_not_its(x):
    """Squares that overflow leave a reciprocal deviation of 0, which is no sign of a small mean."""
    y = native.layer_norm(x, None, None, axes=[1], epsilon=1e-5)
    torch.testing.assert_close(y, portable.layer_norm(x, None, None, axes=[1], epsilon=1e-5), equal_nan=True)


@pytest.mark.parametrize("block", BLOCKS)
def test_inference_in_blocks(block, monkeypatch):
    monkeypatch.setattr(blocks_torch, "BLOCK", block)
    rng = np.random.default_rng(0)
    for shape, axis in (((5, 6, 7, 4), 3), ((5, 4, 7, 6), 1)):
        x = torch.as_tensor(rng.normal(size=shape))
        mean, variance, gamma, beta = (torch.as_tensor(rng.uniform(0.5, 1.5, size=4)) for _ in range(4))
        for offset in (beta, None):
            arguments = (x, mean, variance, gamma, offset)
            found = native.normalize(*arguments, axis=axis, epsilon=1e-3)
            torch.testing.assert_close(found, portable.normalize(*arguments, axis=axis, epsilon=1e-3))


def test_half_precision_is_computed_in_float32(monkeypatch):
    monkeypatch.setattr(blocks_torch, "BLOCK", 60)
    x = (1000 + torch.randn(5, 6, 7, 4)).to(torch.bfloat16)
    y, statistics = native.batch_norm(x, None, None, axis=3, epsilon=1e-3)
    expected, _ = portable.batch_norm(x, None, None, axis=3, epsilon=1e-3)
    assert y.dtype == torch.bfloat16
    assert statistics.mean.dtype == torch.float32
    # One rounding of the output to eight bits.
    torch.testing.assert_close(y, expected, rtol=2**-7, atol=2**-9)


def test_transforms_take_the_portable_operation():
    """Forward-mode, vmap and the compiler cannot see into blocks."""
    x, dx = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)

    def norm(x):
        return native.group_norm(x, None, None, groups=3, axis=2, epsilon=1e-3)

    y, dy = torch.func.jvp(norm, (x,), (dx,))
    h = 1e-6
    torch.testing.assert_close(dy, (norm(x + h * dx) - norm(x - h * dx)) / (2 * h), rtol=0, atol=1e-8)
    torch.testing.assert_close(torch.func.vmap(lambda a: norm(a[None])[0])(x), y)
