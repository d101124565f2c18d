"""Keras's tests that our classes fail on purpose, each with its reason; every one is run and must fail."""

from tests.conformance.keras_modules import Deselection

MOMENTUM = "momentum 1 never forgets, so ours takes [0, 1) and its message names that range"
WEIGHT_DECAY = "our message names the range as well, in the words of every other argument's"
ONE_SLOT = "a slot a parameter whatever the momentum, so that the saved state has one form"
HEAVY_BALL = "its values are those of momentum without Nesterov's look-ahead, which is no rule of ours"
DENSE = "a sparse gradient is made dense, so that every row follows the published formula"

OPTIMIZERS_DIFFER = (
    Deselection("optimizers.sgd_test", "test_invalid_momentum", MOMENTUM),
    Deselection("optimizers.adamw_test", "test_weight_decay_is_none", WEIGHT_DECAY),
    Deselection("optimizers.sgd_test", "test_single_step", ONE_SLOT),
    Deselection("backend.tensorflow.optimizer_distribute_test", "test_single_step0", HEAVY_BALL),
    Deselection("optimizers.optimizer_sparse_test", "test_sparse_gradients_adagrad", DENSE),
    Deselection("optimizers.optimizer_sparse_test", "test_sparse_gradients_loss_scale_optimizer_sgd", DENSE),
    Deselection("optimizers.optimizer_sparse_test", "test_sparse_gradients_rmsprop", DENSE),
    Deselection("optimizers.optimizer_sparse_test", "test_sparse_gradients_sgd", DENSE),
)

MESSAGE = "ours raises the same error in other words: which argument, what came, what would do"
REVERSED = (
    "Keras's message says that groups must be a multiple of the channels; ours says it the right way round"
)
GROUPS = "layers.normalization.group_normalization_test"
RMS = "its last part asks for rms_scaling, which Keras deprecates for dividing by the wrong thing; ours refuses it"
LAYERS = "layers.normalization.layer_normalization_test"
LAYERS_DIFFER = (
    Deselection(LAYERS, "test_ln_basics", RMS),
    Deselection(LAYERS, "test_output_with_rms_scaling", RMS),
    Deselection(
        LAYERS, "test_invalid_axis", "ours raises ValueError, as of every other argument out of range"
    ),
    Deselection(
        "layers.normalization.batch_normalization_test", "test_renorm_invalid_clipping_keys", MESSAGE
    ),
    Deselection(GROUPS, "test_groups_bigger_than_dim_error", MESSAGE),
    Deselection(GROUPS, "test_groups_not_a_multiple_of_dim_error", REVERSED),
    Deselection(GROUPS, "test_groups_rejects_invalid_values", MESSAGE),
    Deselection(GROUPS, "test_undefined_dim_error", MESSAGE),
)

EXPORTS_DIFFER: tuple[Deselection, ...] = ()
