"""Draw a gallery script's thumbnail: `python docs/thumbnails.py plot_lecture_norms` runs it and writes the image.

The images are committed, so that the gallery shows what its scripts draw without running them. A script shows its last
figure whole, or one panel of it where the whole would be too small to read.
"""

import io
import os
import runpy
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"

import matplotlib.pyplot as plt
from PIL import Image, ImageOps

DOCS = Path(__file__).parent
SIZE = (400, 280)  # pixels: the gallery's own
COLOURS = 128  # a figure needs no more, and the file stays small
# The panel that stands for a figure of several, counted from 0.
PANELS = {
    "plot_burgers_pinn": 0,
    "plot_lbfgs_regression": 0,
    "plot_lecture_batch_norm_modes": 1,
    "plot_lecture_cosine_schedule": 1,
    "plot_lecture_newton": 1,
    "plot_lecture_norms": 6,
    "plot_lecture_optimizer_paths": 0,
    "plot_lecture_selu_depth": 1,
    "plot_lecture_weight_decay": 3,
    "plot_pinn_inverse": 1,
    "plot_pinn_quasi_newton": 2,
    "plot_training_health": 0,
}


def draw(figure, name):
    """A figure, or its panel, as an image."""
    box = None
    if name in PANELS:
        figure.draw_without_rendering()  # only then do panels have their places
        box = figure.axes[PANELS[name]].get_tightbbox().transformed(figure.dpi_scale_trans.inverted())
        box = box.padded(0.08)
    drawn = io.BytesIO()
    figure.savefig(drawn, bbox_inches=box, dpi=160)
    return Image.open(drawn)


def write(image, name):
    """Write the thumbnail, in a white frame of the gallery's size."""
    image = ImageOps.pad(image.convert("RGB"), SIZE, color="white")
    image.quantize(COLOURS).save(DOCS / "thumbnails" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    name = sys.argv[1]
    if name == "quickstart":  # README shows its figure, which it writes itself: the first of three panels
        image = Image.open(DOCS / "quickstart.png")
        write(image.crop((0, 0, image.width // 3, image.height)), name)
    else:
        runpy.run_path(str(DOCS.parent / "examples" / f"{name}.py"), run_name="__main__")
        write(draw(plt.figure(plt.get_fignums()[-1]), name), name)
