"""What Keras 3 leaves out: layers, optimizers, L-BFGS and BatchNorm folding."""

__version__ = "0.1.0"
