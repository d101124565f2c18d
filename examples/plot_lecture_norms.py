"""
Which numbers batch, layer, instance and group norm average
===========================================================

The same tensor of 4 samples, 6 channels and 5 positions, normalized four ways. As in Wu & He (2018, figure
2), the cells that share one mean and one variance are drawn in one colour.
"""

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_addons_l6 as l6

SAMPLES, POSITIONS, CHANNELS, GROUPS = 4, 5, 6, 2

rng = np.random.default_rng(0)
# Every sample and every channel has its own offset and scale, so that it shows which of them each layer
# removes.
x = rng.normal(size=(SAMPLES, POSITIONS, CHANNELS))
x = x * rng.uniform(0.5, 2, size=(SAMPLES, 1, CHANNELS)) + rng.normal(scale=2, size=(SAMPLES, 1, CHANNELS))
x = x.astype("float32")

# %%
# Which cells share statistics: an index of the set that each (sample, channel) belongs to. Positions always
# share.

sample, channel = np.meshgrid(np.arange(SAMPLES), np.arange(CHANNELS), indexing="ij")
group = channel // (CHANNELS // GROUPS)
NORMS = {
    "Batch Norm": (l6.BatchNorm(), channel),
    "Layer Norm": (l6.LayerNorm(axis=[1, 2]), sample),
    "Instance Norm": (l6.InstanceNorm(), sample * CHANNELS + channel),
    f"Group Norm ({GROUPS} groups)": (l6.GroupNorm(groups=GROUPS), sample * GROUPS + group),
}

# %%
# After each layer every set of cells has mean 0 and variance 1 (but for epsilon), and the others have not.

figure = plt.figure(figsize=(13, 7), layout="constrained")
for column, (name, (layer, sets)) in enumerate(NORMS.items(), start=1):
    y = ops.convert_to_numpy(layer(x, training=True) if name == "Batch Norm" else layer(x))
    cells = [y.transpose(0, 2, 1)[sets == index] for index in np.unique(sets)]
    print(
        f"{name:22} {len(cells):2} sets; largest |mean| {max(abs(c.mean()) for c in cells):.1e}, "
        f"variance {min(c.var() for c in cells):.4f} to {max(c.var() for c in cells):.4f}"
    )
    cube = figure.add_subplot(2, 4, column, projection="3d")
    colours = plt.colormaps["tab20"](sets % 20)[:, :, None].repeat(POSITIONS, axis=2)
    cube.voxels(np.ones((SAMPLES, CHANNELS, POSITIONS)), facecolors=colours, edgecolor="white", linewidth=0.4)
    cube.set(xlabel="N", ylabel="C", zlabel="H, W", title=name)
    cube.set(xticks=[], yticks=[], zticks=[])
    cube.view_init(elev=22, azim=-55)
    cube.set_box_aspect((SAMPLES, CHANNELS, POSITIONS), zoom=0.8)
    below = figure.add_subplot(2, 4, 4 + column)
    image = below.imshow(y.mean(axis=1), cmap="RdBu", vmin=-2, vmax=2)
    below.set(xlabel="channel", ylabel="sample", title="mean after normalizing")
    below.set_xticks(range(CHANNELS))
    below.set_yticks(range(SAMPLES))
figure.colorbar(image, ax=figure.axes[1::2], label="mean over positions", shrink=0.7)
plt.show()
