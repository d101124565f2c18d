"""The sizes that are measured: variables of known networks, and evenly split ones."""

from collections.abc import Sequence

Shape = tuple[int, ...]


def resnet50() -> list[Shape]:
    """Trainable variables of `keras.applications.ResNet50` (He et al. 2016): 25.6 M in 214."""
    shapes: list[Shape] = _convolution(7, 3, 64)
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            if block == 0:
                shapes += _convolution(1, channels, 4 * width)
            shapes += _convolution(1, channels, width)
            shapes += _convolution(3, width, width)
            shapes += _convolution(1, width, 4 * width)
            channels = 4 * width
    return [*shapes, (channels, 1000), (1000,)]


def _convolution(size: int, channels: int, filters: int) -> list[Shape]:
    """Kernel and bias, and gamma and beta of the BatchNorm after it."""
    return [(size, size, channels, filters), (filters,), (filters,), (filters,)]


def transformer(layers: int = 12, width: int = 768, heads: int = 12) -> list[Shape]:
    """Trainable variables of an encoder's layers (Vaswani et al. 2017, at BERT-base's size): 85 M in 192."""
    projection: list[Shape] = [(width, heads, width // heads), (heads, width // heads)]
    output: list[Shape] = [(heads, width // heads, width), (width,)]
    norm: list[Shape] = [(width,), (width,)]
    dense: list[Shape] = [(width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return (3 * projection + output + norm + dense + norm) * layers


def even(parameters: int, variables: int) -> list[Shape]:
    """`variables` vectors of the same length with `parameters` elements together."""
    return [(parameters // variables,)] * variables


def count(shapes: Sequence[Shape]) -> int:
    """How many elements there are in all."""
    total = 0
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        total += size
    return total
