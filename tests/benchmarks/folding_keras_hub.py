"""The backbones of keras-hub that have BatchNorm, small and without weights, folded: what is left, why, how exact; as Markdown.

    pip install keras-hub  # the newest
    KERAS_BACKEND=torch python -m tests.benchmarks.folding_keras_hub

Each is built from a configuration of its own, with the blocks of the published models and fewer of them.
The statistics are drawn as in `folding_applications`. `--only NAME ...` runs some of them.
"""

import argparse
import time
from collections import Counter
from importlib.metadata import version

import keras
import keras_hub

from keras_addons_l6.folding import fold_with_report, verify_folding
from tests.benchmarks.folding_applications import with_statistics

MODELS = keras_hub.models


def resnet(block="bottleneck_block", stem=1, **changes):
    """ResNet with two blocks a stage."""
    return MODELS.ResNetBackbone(
        input_conv_filters=[64] * stem,
        input_conv_kernel_sizes=[7 if stem == 1 else 3] * stem,
        stackwise_num_filters=[64] * 4,
        stackwise_num_blocks=[2] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        **changes,
    )


def hgnet(**changes):
    """HGNetV2 with learnable affine blocks and lightweight convolutions."""
    return MODELS.HGNetV2Backbone(
        depths=[1, 1, 2, 1],
        embedding_size=16,
        hidden_sizes=[64, 128, 128, 128],
        stem_channels=[3, 16, 16],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[
            [16, 16, 64, 1, 3, 3],
            [64, 32, 128, 1, 3, 3],
            [128, 32, 128, 2, 3, 5],
            [128, 32, 128, 1, 3, 5],
        ],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        **changes,
    )


def mobilenet_v3():
    """MobileNetV3 with squeeze-and-excite."""
    return MODELS.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144, 144], [72, 72]],
        stackwise_num_blocks=[2, 3, 2],
        stackwise_num_filters=[[16, 16], [24, 24, 24], [48, 48]],
        stackwise_kernel_size=[[3, 3], [5, 5, 5], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25, 0.25], [0.3, 0.25]],
        stackwise_activation=[["relu"] * 2, ["hard_swish"] * 3, ["hard_swish"] * 2],
        stackwise_padding=[[1, 1], [2, 2, 2], [2, 2]],
        output_num_filters=288,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=288,
        squeeze_and_excite=0.5,
    )


def mobilenet_v5():
    """MobileNetV5 with BatchNorm: edge residuals, inverted bottlenecks, attention."""
    return MODELS.MobileNetV5Backbone(
        stackwise_block_types=[["er"], ["uir", "uir"], ["uir", "mqa"]],
        stackwise_num_blocks=[1, 2, 2],
        stackwise_num_filters=[[24], [48, 48], [48, 48]],
        stackwise_strides=[[2], [2, 1], [2, 1]],
        stackwise_act_layers=[["relu"], ["relu"] * 2, ["relu"] * 2],
        stackwise_exp_ratios=[[4.0], [6.0, 6.0], [4.0, 1.0]],
        stackwise_se_ratios=[[0.0], [0.0, 0.0], [0.0, 0.0]],
        stackwise_dw_kernel_sizes=[[0], [5, 5], [3, 3]],
        stackwise_dw_start_kernel_sizes=[[0], [0, 3], [5, 0]],
        stackwise_dw_end_kernel_sizes=[[0], [0, 0], [0, 0]],
        stackwise_exp_kernel_sizes=[[3], [0, 0], [0, 0]],
        stackwise_pw_kernel_sizes=[[1], [0, 0], [0, 0]],
        stackwise_num_heads=[[0], [0, 0], [0, 4]],
        stackwise_key_dims=[[0], [0, 0], [0, 16]],
        stackwise_value_dims=[[0], [0, 0], [0, 16]],
        stackwise_kv_strides=[[0], [0, 0], [0, 1]],
        stackwise_use_cpe=[[False], [False, False], [False, False]],
        use_msfa=False,
        norm_layer="batch_norm",
        act_layer="relu",
        image_shape=(64, 64, 3),
    )


def efficientnet(block_types, ratios, **changes):
    """EfficientNet, first or second version."""
    return MODELS.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 4,
        stackwise_depth_coefficients=[1.0] * 4,
        stackwise_kernel_sizes=[3, 3, 3, 5],
        stackwise_num_repeats=[1, 2, 2, 2],
        stackwise_input_filters=[16, 16, 24, 32],
        stackwise_output_filters=[16, 24, 32, 48],
        stackwise_expansion_ratios=[1, 4, 4, 6],
        stackwise_squeeze_and_excite_ratios=ratios,
        stackwise_strides=[1, 2, 2, 2],
        stackwise_block_types=block_types,
        num_features=64,
        **changes,
    )


def efficientnet_v1():
    """EfficientNet, as first published."""
    first = {"use_depth_divisor_as_min_depth": True, "cap_round_filter_decrease": True}
    return efficientnet(["v1"] * 4, [0.25] * 4, include_stem_padding=True, **first)


def efficientnet_v2():
    """EfficientNetV2 with fused and unfused blocks."""
    types = ["fused", "fused", "unfused", "unfused"]
    padding = {"include_stem_padding": False, "stem_conv_padding": "same"}
    return efficientnet(types, [0.0, 0.0, 0.25, 0.25], **padding)


def csp(block, stage, ratio):
    """CSPNet and DarkNet."""
    return MODELS.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2, 2],
        stackwise_strides=[1, 2, 2],
        stackwise_num_filters=[16, 32, 48],
        block_type=block,
        stage_type=stage,
        bottle_ratio=[ratio],
        block_ratio=[1.0 if stage == "dark" else 0.5],
        expand_ratio=[1.0],
    )


def xception():
    """Xception, whose residuals need other widths where they pool."""
    return MODELS.XceptionBackbone(
        stackwise_conv_filters=[[16, 32], [32, 48], [64, 64]], stackwise_pooling=[True, True, False]
    )


def deeplab(size=64):
    """DeepLabV3+ over a ResNet."""
    return MODELS.DeepLabV3Backbone(
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        low_level_feature_key="P2",
        projection_filters=16,
        image_shape=(size, size, 3),
    )


def retinanet(**changes):
    """RetinaNet's pyramid with BatchNorm, over a ResNet."""
    options = {"use_p5": False, "use_fpn_batch_norm": True}
    return MODELS.RetinaNetBackbone(image_encoder=resnet(), min_level=3, max_level=7, **options, **changes)


def d_fine():
    """D-FINE over an HGNetV2."""
    image = {"image_shape": (64, 64, 3)}
    return MODELS.DFineBackbone(
        backbone=hgnet(out_features=["stage3", "stage4"], **image),
        decoder_in_channels=[32, 32],
        encoder_hidden_dim=32,
        num_denoising=0,
        num_labels=8,
        hidden_dim=32,
        learn_initial_query=False,
        num_queries=20,
        anchor_image_size=(64, 64),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[128, 128],
        encode_proj_layers=[1],
        num_attention_heads=4,
        encoder_ffn_dim=64,
        num_encoder_layers=1,
        hidden_expansion=0.34,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        decoder_n_points=[4, 4],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage3", "stage4"],
        seed=0,
        **image,
    )


def segformer():
    """SegFormer over a MixTransformer."""
    encoder = MODELS.MiTBackbone(
        layerwise_depths=[1] * 4,
        num_layers=4,
        layerwise_num_heads=[1, 1, 2, 2],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        image_shape=(64, 64, 3),
        hidden_dims=[16, 24, 32, 40],
    )
    return MODELS.SegFormerBackbone(image_encoder=encoder, projection_filters=20)


def basnet():
    """BASNet over a ResNet18, whose widths it asks for."""
    encoder = MODELS.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    return MODELS.BASNetBackbone(image_encoder=encoder, num_classes=1, projection_filters=64)


BACKBONES = {
    "ResNet, basic blocks": lambda: resnet("basic_block"),
    "ResNet": resnet,
    "ResNet vd": lambda: resnet("bottleneck_block_vd", stem=3),
    "ResNet v2": lambda: resnet(use_pre_activation=True),
    "HGNetV2": hgnet,
    "MobileNetV3": mobilenet_v3,
    "MobileNetV5": mobilenet_v5,
    "EfficientNet": efficientnet_v1,
    "EfficientNetV2": efficientnet_v2,
    "DarkNet": lambda: csp("dark_block", "dark", 0.5),
    "CSPDarkNet": lambda: csp("dark_block", "csp", 0.5),
    "CSPNet, edge blocks": lambda: csp("edge_block", "csp", 2.0),
    "CSPNet, one transition": lambda: csp("bottleneck_block", "cs3", 0.5),
    "DenseNet": lambda: MODELS.DenseNetBackbone(stackwise_num_repeats=[2] * 4, growth_rate=8),
    "Xception": xception,
    "DeepLabV3+": deeplab,
    "DeepLabV3+, open sizes": lambda: deeplab(None),
    "RetinaNet, pyramid with BatchNorm": retinanet,
    "D-FINE": d_fine,
    "SegFormer": segformer,
    "BASNet": basnet,
}


def row(name):
    """One line of the table."""
    keras.utils.set_random_seed(0)
    model = with_statistics(BACKBONES[name](), spread=0.3)
    start = time.perf_counter()
    folding = fold_with_report(model, verbose=0)
    seconds = time.perf_counter() - start
    reasons = Counter(kept.reason.code for kept in folding.report.kept)
    why = ", ".join(f"{count} {code}" for code, count in reasons.most_common())
    check = verify_folding(model, folding.model)
    counts = f"{len(folding.report)} | {len(folding.report.kept)} | {why}"
    return f"| {name} | {counts} | {check.error:.1e} ({check.tolerance:.1e}) | {seconds:.1f} |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(BACKBONES), metavar="NAME")
    arguments = parser.parse_args()
    print(f"keras-hub {version('keras-hub')}, Keras {keras.__version__}, {keras.config.backend()}.\n")
    print("| backbone | BatchNorm calls | left | why | largest error (allowed) | seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.only:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
