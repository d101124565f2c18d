"""The faults that test_planted_faults.py plants, one at a time: where, what becomes of it, and who must notice."""

from typing import NamedTuple


class Fault(NamedTuple):
    """A piece of source that occurs once in a file, what takes its place, and the tests that must fail then.

    `backend` is where they fail: for a backend's own folder that backend; for what all share JAX, which runs the
    portable definitions unreplaced, or torch, which compiles nothing and is the quickest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    backend: str = "jax"


FORMULAS = "tests/optimizers/test_formulas.py -k float64"
EVERY = "tests/test_every_optimizer.py"
STATE = "tests/crash/test_saved_state.py"
LAYER = "tests/test_every_layer.py"
NUMERICS = "tests/backends/test_numerics.py"
BATCH = "tests/layers/test_batch_norm.py"
GROUP = "tests/layers/test_group_norm.py"
LAYER_NORM = "tests/layers/test_layer_norm.py"
MINIMIZE = "tests/optimizers/quasi_newton/test_minimize.py"
RUNS = "tests/properties/test_lbfgs_runs.py"
INVERSE = "tests/optimizers/quasi_newton/test_inverse_hessian.py"
PROOF = "tests/folding/test_proof.py"
EXPORT = "tests/export/test_export_folded.py"
WATCHED = "tests/health/test_training_health.py"
NUMBERS = "tests/health/test_arithmetic.py"
LOOKED = "tests/health/test_numbers.py"
DOOR = "tests/test_keras_private.py"
FOLDING = "tests/folding/test_awkward_models.py"
SWITCH = "tests/precision/test_switch.py"
VALUES = "tests/precision/test_values.py"

OPTIMIZERS = [
    Fault("Nesterov without momentum", "optimizers/nesterov.py", "    v_next = m * v - a * g\n    x", "    v_next = -a * g\n    x", FORMULAS),
    Fault("Nesterov without look-ahead", "optimizers/nesterov.py", "    x = x + (m * v_next - a * g)", "    x = x + v_next", FORMULAS),
    Fault("AdaGrad's epsilon in the root", "optimizers/adagrad.py", "    x = x - a * g / (sqrt(s) + eps)\n    return", "    x = x - a * g / sqrt(s + eps)\n    return", FORMULAS),
    Fault("AdaGrad forgets its sum", "optimizers/adagrad.py", "    s = s + g * g\n    x = x - a * g / (sqrt(s) + eps)\n    return", "    s = g * g\n    x = x - a * g / (sqrt(s) + eps)\n    return", FORMULAS),
    Fault("AdaGrad's start ignored", "optimizers/adagrad.py", "Constant(np.float64(self.initial_accumulator_value))", "Constant(np.float64(0.0))", FORMULAS),
    Fault("RMSProp's epsilon in the root", "optimizers/rmsprop.py", "    scaled = g / (sqrt(variance) + eps)", "    scaled = g / sqrt(variance + eps)", FORMULAS),
    Fault("RMSProp not centered", "optimizers/rmsprop.py", "maximum(s - mean * mean, 0.0)", "maximum(s, 0.0)", FORMULAS),
    Fault("RMSProp's momentum dropped", "optimizers/rmsprop.py", "momentum * u + scaled", "scaled", FORMULAS),
    Fault("Adam without the first bias correction", "optimizers/adam.py", "    m_hat = m * (1 / c1)", "    m_hat = m", FORMULAS),
    Fault("Adam without the second bias correction", "optimizers/adam.py", "(v if v_max is None else v_max) * (1 / c2)", "(v if v_max is None else v_max)", FORMULAS),
    Fault("Adam's epsilon before bias correction", "optimizers/adam.py", "    x = x - a * m_hat / (sqrt(v_hat) + eps)\n    return", "    x = x - a * m_hat / (sqrt(v_hat) + eps / sqrt(c2))\n    return", FORMULAS),
    Fault("amsgrad ignored", "optimizers/adam.py", "maximum(v_max, v)", "v", FORMULAS),
    Fault("AdamW's decay dropped", "optimizers/first_order.py", "        return a * self.weight_decay", "        return a * 0.0", EVERY + " -k takes_a_wd_x_off"),
    Fault("steps counted from zero", "optimizers/first_order.py", "rules.scalar(self.iterations + 1, dtype)", "rules.scalar(self.iterations, dtype)", FORMULAS),
    Fault("excluded variables decayed", "optimizers/first_order.py", "self._is_decayed(x)) for g, x", "decay is not None) for g, x", EVERY + " -k exclusion"),
    Fault("a kernel for a formula of one's own", "optimizers/first_order.py", "else Rule(cls.rule)", 'else Rule(cls.rule, kernel="adam")', "tests/backends/test_native_rules.py -k own", "torch"),
    Fault("a kernel that rounds a beta to one", "backends/tensorflow/rules.py", "and all(survives_rounding(coefficients[name], dtype) for name in self.decays)", "and True", "tests/backends/test_native_rules.py -k beta_is_served", "tensorflow"),
    Fault("every variable decayed on torch", "backends/torch/rules.py", "x.device, decayed)", "x.device, decay is not None)", "tests/backends/test_native_rules.py -k decayed_alone", "torch"),
    Fault("a fused kernel without momentum", "backends/torch/rules.py", 'coefficients.get("m") == 0', "False", "tests/backends/test_native_rules.py -k native_step", "torch"),
    Fault("True taken for a number", "argument_checks.py", "isinstance(value, bool) or not isinstance(value, numbers.Real)", "not isinstance(value, numbers.Real)", "tests/optimizers/test_arguments.py", "torch"),
    Fault("a wrong name not explained", "argument_checks.py", "[n for n in _RIGHT_NAMES.get(name, ()) if n in known]", "[]", "tests/test_bad_input.py -k right_one", "torch"),
    Fault("parameters taken for a rate", "optimizers/base_arguments.py", "isinstance(learning_rate, Iterator) or _holds_weights(learning_rate)", "isinstance(learning_rate, Iterator)", "tests/test_bad_input.py -k parameters", "torch"),
    Fault("exclusions not saved", "optimizers/first_order.py", "if any(excluded.values()) else config", "if False else config", EVERY + " -k exclusion_is_saved"),
    Fault("a pattern searched in the name alone", "optimizers/exclusions.py", "    return [variable.name, path, *path.split(\"/\")]", "    return [variable.name]", "tests/optimizers/test_exclusions.py -k pattern", "torch"),
    Fault("an exclusion that reaches nothing kept silent", "optimizers/exclusions.py", "        if self.unclear:", "        if False:", "tests/optimizers/test_exclusions.py -k told", "torch"),
    Fault("a slot's state left behind on load", "optimizers/saved_state.py", "            _assign([a for a in plan.assignments if a[0] not in BEFORE_BUILD])", "            _assign([a for a in plan.assignments if a[0] not in BEFORE_BUILD][:-1])", STATE + " -k is_taken", "torch"),
    Fault("a state that does not fit let in", "optimizers/saved_state.py", "        if plan.misfits:\n            raise", "        if False:\n            raise", STATE + " -k Refused", "torch"),
    Fault("another optimizer's state let in", "optimizers/saved_state.py", "if state.made_by is None or state.made_by == self._made_by():", "if True:", STATE + " -k of_another", "torch"),
    Fault("an average that starts late from zero", "optimizers/saved_state.py", "        if not int(_array(self.variables[0])):", "        if False:", STATE + " -k thawed", "torch"),
    Fault("slots given by order whatever the paths", "optimizers/variable_pairing.py", "    found = by_path(saved, own)\n", "    found = {}\n", "tests/optimizers/test_variable_pairing.py"),
]  # fmt: skip

LAYERS = [
    Fault("PReLU's alpha without a gradient", "layers/prelu.py", "backends.layers.prelu(x, ops.convert_to_tensor(self.alpha))", "backends.layers.prelu(x, ops.stop_gradient(ops.convert_to_tensor(self.alpha)))", "tests/layers/test_prelu.py"),
    Fault("PReLU's alpha from zero", "layers/prelu.py", "alpha_initializer: Initializer = _INITIAL_SLOPE", 'alpha_initializer: Initializer = "zeros"', "tests/layers/test_prelu.py"),
    Fault("parameters shared along the wrong axis", "layers/shared_axes.py", "        size = 1 if axis in shared else size", "        size = 1 if axis - 1 in shared else size", "tests/layers/test_prelu.py"),
    Fault("Swish's beta without a gradient", "layers/swish.py", "backends.layers.swish(x, ops.convert_to_tensor(self.beta))", "backends.layers.swish(x, ops.stop_gradient(ops.convert_to_tensor(self.beta)))", "tests/layers/test_swish.py"),
    Fault("Swish's beta always trained", "layers/swish.py", "            trainable=self.trainable_beta,\n", "", "tests/layers/test_swish.py"),
    Fault("SELU's constant to four digits", "backends/portable/layers.py", "SELU_ALPHA = 1.6732632423543772", "SELU_ALPHA = 1.6733", "tests/layers/test_selu.py"),
    Fault("BatchNorm's running mean stale", "layers/batch_norm.py", "        self._move(self.moving_mean, batch.mean, self.momentum, batch.count)\n        self._move(self.moving_variance", "        self._move(self.moving_variance", BATCH),
    Fault("BatchNorm's momentum the wrong way round", "layers/batch_norm.py", "old * momentum + value * (1.0 - momentum)", "old * (1.0 - momentum) + value * momentum", BATCH),
    Fault("the unbiased variance biased", "layers/batch_norm.py", "ops.clip(batch.count - 1.0, 1.0, math.inf)", "ops.clip(batch.count, 1.0, math.inf)", BATCH),
    Fault("a frozen BatchNorm that trains", "layers/batch_norm.py", "        if not (training and self.trainable):", "        if not training:", BATCH),
    Fault("a mask ignored", "layers/batch_norm.py", "        if mask is not None:\n            return backends.layers.masked_batch_norm", "        if False:\n            return backends.layers.masked_batch_norm", BATCH),
    Fault("BatchNorm's epsilon moved", "backends/portable/layers.py", '1.0 / ops.sqrt(variance + epsilon * EXACT_SCALE**2)', '1.0 / (ops.sqrt(variance) + epsilon * EXACT_SCALE)', BATCH),
    Fault("epsilon moved at test time", "backends/portable/layers.py", "1.0 / ops.sqrt(ops.cast(variance, x.dtype) + epsilon)", "1.0 / (ops.sqrt(ops.cast(variance, x.dtype)) + epsilon)", BATCH),
    Fault("beta lost", "backends/portable/layers.py", 'offset if beta is None else offset + beta', 'offset', BATCH),
    Fault("variance not about the mean", "backends/portable/layers.py", 'average(ops.square(u)) - ops.square(mean)', 'average(ops.square(u))', NUMERICS + " -k far_from_zero"),
    Fault("statistics without a shift", "backends/portable/layers.py", '    shift = batch_shift(z, axis, passes.average)\n', '    shift = batch_shift(z, axis, passes.average) * 0.0\n', NUMERICS + " -k far_from_zero"),
    Fault("half precision in half precision", "backends/portable/layers.py", 'map(keras.backend.standardize_dtype, dtypes) else "float32"', 'map(keras.backend.standardize_dtype, dtypes) else keras.backend.standardize_dtype(dtypes[0])', NUMERICS + " -k half_precision"),
    Fault("groups of the wrong channels", "backends/portable/layers.py", "ops.reshape(per_channel, (-1, groups, channels // groups))", "ops.transpose(ops.reshape(per_channel, (-1, channels // groups, groups)), (0, 2, 1))", GROUP),
    Fault("InstanceNorm over the whole sample", "layers/instance_norm.py", "            groups=-1,\n", "            groups=1,\n", GROUP),
    Fault("masked values counted in a group", "layers/group_norm.py", "        if mask is None:\n", "        if True:\n", GROUP + " -k mask"),
    Fault("single values normalized", "layers/group_norm.py", "len(input_shape) == 2 and self.groups in (-1, channels)", "len(input_shape) == 1 and self.groups in (-1, channels)", GROUP + " -k single"),
    Fault("a batch rounded before its statistics", "layers/batch_norm.py", "        self.autocast = False", "        self.autocast = True", BATCH + " -k as_it_came"),
    Fault("NaN in the moving averages", "layers/batch_norm.py", "ops.where(finite, batch.count, ops.zeros_like(batch.count))", "batch.count", BATCH + " -k not_finite"),
    Fault("a parameter of length 1 spread", "layers/shared_axes.py", "if axis not in shared}", "if axis not in shared and size != 1}", "tests/layers/test_prelu.py -k length_one"),
    Fault("integers returned as they came", "layers/swish.py", "ops.cast(inputs, self.compute_dtype)", "inputs", LAYER + " -k integers"),
    Fault("Swish at infinity", "backends/portable/layers.py", "    y = ops.where(infinite, limit, finite * ops.sigmoid(finite * beta))", "    y = z * ops.sigmoid(z * beta)", "tests/layers/test_swish.py -k infinity"),
    Fault("saved tensors unpacked twice", "backends/torch/rows.py", "x, gamma, beta, *statistics = ctx.saved_tensors", "x, gamma, beta, *statistics = ctx.saved_tensors and ctx.saved_tensors", LAYER + " -k checkpointed", "torch"),
    Fault("a batch counted twice under checkpointing", "backends/torch/layers.py", "return private.backward_pass() != -1", "return False", LAYER + " -k checkpointed", "torch"),
    Fault("the scale of u lost in a row's gradient", "backends/torch/rows.py", "out.copy_(du.mul_(scale))", "out.copy_(du)", "tests/backends/test_blocks_torch.py", "torch"),
    Fault("rows far from zero given to the kernel", "backends/torch/rows.py", "return smallest.item() >= -2 and largest.item() <= 2 and", "return", "tests/backends/test_numerics.py -k layer_norm_loses", "torch"),
    Fault("rows whose squares overflow given to the kernel", "backends/torch/rows.py", " and reciprocal.min().item() > 0", "", "tests/backends/test_blocks_torch.py -k square", "torch"),
    Fault("a row's gradients summed in half precision", "backends/torch/rows.py", "map(blocks.wide, rows.of(whole))", "rows.of(whole)", NUMERICS + " -k more_than_half", "torch"),
    Fault("PReLU's slopes summed in half precision", "backends/portable/layers.py", "    z = ops.cast(x, statistics_dtype(x.dtype))\n    alpha = ops.cast(alpha, z.dtype)\n", "    z = x\n", NUMERICS + " -k more_than_half", "tensorflow"),
    Fault("Swish's slope for beta without its input", "backends/torch/pointwise.py", "s.addcmul_(beta, t), t.mul_(x)", "s.addcmul_(beta, t), t", "tests/backends/test_blocks_torch.py -k activations", "torch"),
    Fault("a weight's gradient of the last block alone", "backends/torch/pointwise.py", "of_weights.add_(", "of_weights.copy_(", "tests/backends/test_blocks_torch.py -k activations", "torch"),
    Fault("the slope of Swish on JAX without its gate's", "backends/jax/layers.py", "(s + jnp.clip(g, -flat, flat) * slope_of_s)", "s", "tests/backends/test_native_kernels.py -k swish"),
    Fault("the slope of Swish without its gate's", "backends/tensorflow/layers.py", "return dy * slope", "return dy * s", "tests/backends/test_native_kernels.py -k swish", "tensorflow"),
    Fault("a normalization's gradient without its variance", "backends/tensorflow/layers.py", "rest = u * (per_deviation * scale * product) + ", "rest = ", NUMERICS + " -k values_and_derivatives", "tensorflow"),
    Fault("LayerNorm's epsilon Keras's", "layers/layer_norm.py", "        epsilon: float = 1e-5,", "        epsilon: float = 1e-3,", LAYER_NORM),
    Fault("LayerNorm's axes unsorted", "layers/layer_norm.py", "sorted({a % rank for a in given})", "[a % rank for a in given]", LAYER_NORM),
    Fault("LayerNorm's config overwritten by build", "layers/layer_norm.py", "        sizes = self._sizes(input_shape)\n", "        sizes = self._sizes(input_shape)\n        self.axis = list(sizes)\n", LAYER_NORM),
    Fault("LayerNorm without a shift", "backends/portable/layers.py", "passes.centred(z, feature_shift(z, axes, passes.average))", "passes.centred(z, 0.0 * feature_shift(z, axes, passes.average))", NUMERICS + " -k layer_norm_loses"),
    Fault("GroupNorm's config overwritten by build", "layers/group_norm.py", "        self._check_divides(channels)\n", "        self._check_divides(channels)\n        self.groups = channels if self.groups == -1 else self.groups\n", GROUP),
]  # fmt: skip

LBFGS = [
    Fault("a swapped pair in the history", "optimizers/quasi_newton/pairs.py", "store(arrays, History(*memory, *tally), pair.s, pair.y, accepted)", "store(arrays, History(*memory, *tally), pair.y, pair.s, accepted)", RUNS, "torch"),
    Fault("the sign of y", "optimizers/quasi_newton/iteration.py", "y=tuple(g - old for g, old", "y=tuple(old - g for g, old", RUNS, "torch"),
    Fault("the inverse's new column as a row", "optimizers/quasi_newton/pairs.py", 'others[0], newest, 0 * column, column', 'others[0], newest, column, 0 * column', RUNS, "torch"),
    Fault("the history's oldest pair kept for good", "optimizers/quasi_newton/pairs.py", "row = (history.newest + 1) % size", "row = arrays.smaller(history.newest + 1, size - 1)", RUNS, "torch"),
    Fault("gamma always one", "optimizers/quasi_newton/pairs.py", 'arrays.select(keep, sy / yy, history.gamma)', 'sy / sy', RUNS, "torch"),
    Fault("pairs of negative curvature kept", "optimizers/quasi_newton/pairs.py", "keep = is_kept(arrays, wanted, sy, ss, yy)", "keep = wanted", RUNS, "torch"),
    Fault("a sign in the line search", "optimizers/quasi_newton/line_search.py", "    is_left = finite & (trial.slope < 0) & low", "    is_left = finite & (trial.slope > 0) & low", RUNS, "torch"),
    Fault("no curvature condition", "optimizers/quasi_newton/line_search.py", "    curvature = trial.slope >= sigma * search.slope", "    curvature = trial.slope >= 10 * search.slope", RUNS, "torch"),
    Fault("no sufficient decrease", "optimizers/quasi_newton/line_search.py", "curvature & (decrease | nearly_flat)", "curvature", RUNS, "torch"),
    Fault("an uphill step accepted", "optimizers/quasi_newton/line_search.py", "finite & (trial.value <= tolerance.limit) & curvature", "finite & curvature", RUNS, "torch"),
    Fault("infinite trials expanded, not cut", "optimizers/quasi_newton/line_search.py", "CONTRACTION = 0.1", "CONTRACTION = 0.9", RUNS, "torch"),
    Fault("the cubic's wrong root", "optimizers/quasi_newton/line_search.py", "arrays.select(b.step > a.step, 1.0, -1.0)", "arrays.select(b.step > a.step, -1.0, 1.0)", RUNS, "torch"),
    Fault("the first step not of length one", "optimizers/quasi_newton/iteration.py", "arrays.scale(1 / length, g) for g in scaled", "arrays.scale(1.0, g) for g in scaled", RUNS, "torch"),
    Fault("converged at once", "optimizers/quasi_newton/iteration.py", "verdict.moved & (now.gradient_norm <= settings.gradient_tolerance)", "verdict.moved & (now.gradient_norm <= 1e3 * settings.gradient_tolerance)", RUNS, "torch"),
    Fault("an absolute guard on curvature", "optimizers/quasi_newton/curvature.py", "    bound = BENT * arrays.unit_roundoff * (arrays.small.sqrt(ss) * arrays.small.sqrt(yy))", "    bound = 1e-10", RUNS, "torch"),
    Fault("H not in units of gamma", "optimizers/quasi_newton/inverse_hessian.py", "y, g = wide.scale(gamma, y), wide.scale(gamma, g)", "gamma = 0 * gamma + 1", INVERSE + " -k papers", "torch"),
    Fault("an update applied at every pass", "optimizers/quasi_newton/inverse_hessian.py", "signs = [select(kept, x, 0.0) for x in (-1.0, sign, 1.0)]", "signs = [-1.0, sign, 1.0]", "tests/optimizers/quasi_newton/test_bfgs.py -k kept_for_new_data", "torch"),
    Fault("phi's sign lost", "optimizers/quasi_newton/inverse_hessian.py", "wide.select(phi < 0, -1.0, 1.0)", "1.0", INVERSE + " -k member", "torch"),
    Fault("resets not counted", "optimizers/quasi_newton/inverse_hessian.py", "resets=memory.resets + arrays.select(lost, 1, 0)", "resets=memory.resets", INVERSE + " -k afresh", "torch"),
    Fault("tau dropped", "optimizers/quasi_newton/updates.py", "arrays.smaller(0 * b + 1, 1 / b)), phi", "0 * b + 1), phi", INVERSE, "torch"),
    Fault("theta's upper bound dropped", "optimizers/quasi_newton/updates.py", "smaller(1 / r, (1 - b) / b)", "(1 - b) / b", INVERSE, "torch"),
    Fault("products before the update", "backends/torch/arrays.py", "torch.mv(block, factor, out=product[rows])", "torch.mv(block / 2, factor, out=product[rows])", INVERSE, "torch"),
    Fault("the last rows of H left out", "backends/portable/arrays.py", "blocks(n - n % rows, n % rows, 1, carried) if n % rows else carried", "carried", INVERSE + " -k whole_matrices", "tensorflow"),
    Fault("H's size not looked at", "optimizers/quasi_newton/arguments.py", "    if need > max_memory:", "    if False:", "tests/optimizers/quasi_newton/test_bfgs.py -k bound", "torch"),
    Fault("H saved whatever was asked", "optimizers/quasi_newton/bfgs.py", "frozenset() if self.save_curvature else", "frozenset() if True else", "tests/optimizers/quasi_newton/test_bfgs.py -k small", "torch"),
    Fault("averages of rejected trials kept", "optimizers/quasi_newton/programs.py", "return old if new is old else arrays.select(is_accepted, new, old)", "return new", "tests/optimizers/quasi_newton/test_full_batch.py -k only_accepted", "torch"),
    Fault("curvature blamed on batches", "optimizers/quasi_newton/consistency.py", "FAR = 3.0", "FAR = 0.0", "tests/optimizers/quasi_newton/test_optimizer_in_fit.py -k merely_not_convex", "torch"),
    Fault("batches that differ not told", "optimizers/quasi_newton/consistency.py", "CONTRADICTION, LONG = 4, 16", "CONTRADICTION, LONG = 4, 1600", "tests/optimizers/quasi_newton/test_optimizer_in_fit.py -k batches_that_differ", "torch"),
    Fault("an iteration recorded a row late", "optimizers/quasi_newton/iteration_history.py", "arrays.put(held.records, (iterations - 1) % ROWS, row, is_new)", "arrays.put(held.records, iterations % ROWS, row, is_new)", "tests/optimizers/quasi_newton/test_full_batch.py -k one_entry", "torch"),
    Fault("callbacks by the clock", "optimizers/quasi_newton/full_batch.py", "while self._now.iterations < goal and not self._ended and not interrupt.requested:", "if not self._ended:", "tests/optimizers/quasi_newton/test_full_batch.py -k depend_on_the_machine", "torch"),
    Fault("a program kept when compiled anew", "optimizers/quasi_newton/full_batch.py", "if kept is None or kept.compiled_as is not compiled:", "if kept is None:", "tests/optimizers/quasi_newton/test_full_batch.py -k compile_renews"),
    Fault("a program for every call", "optimizers/quasi_newton/full_batch.py", "    if key not in kept.programs:\n", "    if True:\n", "tests/optimizers/quasi_newton/test_full_batch.py -k compile_nothing"),
    Fault("sums of pieces taken for means", "optimizers/quasi_newton/pieces.py", "return length / samples if rule == MEAN else 1.0", "return length / samples", "tests/optimizers/quasi_newton/test_full_batch.py -k own", "torch"),
    Fault("masks lost between the passes", "optimizers/quasi_newton/pieces.py", "leaves = map(with_mask, variables[count:], masks)", "leaves = variables[count:]", "tests/optimizers/quasi_newton/test_full_batch.py -k masks_that", "torch"),
    Fault("pieces of BatchNormalization let in", "optimizers/quasi_newton/pieces.py", "if not same and np.isfinite(together).all():", "if False:", "tests/optimizers/quasi_newton/test_full_batch.py -k depend_on_other", "torch"),
    Fault("recurrent states handed on", "optimizers/quasi_newton/full_batch_loss.py", "before if id(v) in states else scope", "scope", "tests/optimizers/quasi_newton/test_full_batch.py -k stateful", "torch"),
    Fault("recurrent states not put back", "optimizers/quasi_newton/full_batch_loss.py", "for v in (*untrained, *states)]", "for v in untrained]", "tests/optimizers/quasi_newton/test_full_batch.py -k stateful", "torch"),
    Fault("labels of columns by their first", "optimizers/quasi_newton/full_batch_data.py", "labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels[..., 0]", "labels[..., 0]", "tests/optimizers/quasi_newton/test_full_batch.py -k columns", "torch"),
    Fault("a bar that stops short", "optimizers/quasi_newton/progress_line.py", "if final or time", "if time", "tests/optimizers/quasi_newton/test_progress_line.py -k ends_full", "torch"),
    Fault("averages left infinite by a trial", "optimizers/quasi_newton/callbacks.py", "        if all(map(bool, finite)):", "        if True:", "tests/optimizers/quasi_newton/test_callbacks.py -k not_finite", "torch"),
    Fault("a seed that draws nothing blamed", "optimizers/quasi_newton/randomness.py", "    if unnamed and seeds:", "    if seeds:", "tests/optimizers/quasi_newton/test_full_batch.py -k draw_nothing", "torch"),
    Fault("a program for whatever is traced", "optimizers/quasi_newton/minimize.py", "    key = (trace.key, method, arrays.real)", "    key = (method, arrays.real)", MINIMIZE + " -k start_does_not_tell"),
    Fault("numbers that a function captured not compared", "backends/jax/traces.py", "            return atom.aval, _exact_value(atom.val, differentiated)", "            return atom.aval, None", MINIMIZE + " -k start_does_not_tell"),
    Fault("graphs compared by their size", "backends/tensorflow/traces.py", "            graph.SerializeToString(deterministic=True), concrete", "            len(graph.node), concrete", MINIMIZE + " -k start_does_not_tell", "tensorflow"),
    Fault("no gradient counted as zero", "backends/torch/programs.py", "        if all(gradient is None for gradient in gradients) and not part:", "        if False:", MINIMIZE + " -k loses_a_gradient", "torch"),
    Fault("an array taken apart as arguments", "optimizers/quasi_newton/layout.py", "args if isinstance(args, tuple) else (args,)", "tuple(args)", MINIMIZE + " -k as_scipy_takes_them", "torch"),
    Fault("no fall taken for unbounded", "optimizers/quasi_newton/iteration.py", "    status = select(verdict.unbounded, UNBOUNDED, status)\n", "", MINIMIZE + " -k falls_for_ever", "torch"),
]  # fmt: skip

FOLDINGS = [
    Fault("epsilon moved in folding", "folding/planning/affine.py", "    scale = gamma / np.sqrt(variance + epsilon)\n    return", "    scale = gamma / (np.sqrt(variance) + epsilon)\n    return", FOLDING, "torch"),
    Fault("the moving mean lost", "folding/planning/affine.py", "    return Affine(scale, beta - mean * scale)", "    return Affine(scale, beta)", FOLDING, "torch"),
    Fault("maps composed the wrong way round", "folding/planning/affine.py", "self.shift * later.scale + later.shift", "later.shift * self.scale + self.shift", FOLDING, "torch"),
    Fault("the bias not scaled", "folding/planning/absorb.py", "    return _bias(weights) * affine.scale + affine.shift", "    return _bias(weights) + affine.shift", FOLDING, "torch"),
    Fault("a shift lost through padding", "folding/planning/channels.py", "    return bool((c * scale + shift == c)[content.is_constant].all())", "    return True", FOLDING + " -k pad", "torch"),
    Fault("a shift lost in a padded convolution", "folding/planning/absorb.py", "set(layer.kernel_size) == {1} or not affine.shift.any()", "True", FOLDING, "torch"),
    Fault("negative scales through a maximum", "folding/planning/passage.py", "(placed.affine.scale < 0).any()", "False", FOLDING + " -k max", "torch"),
    Fault("the kernel axis of transposed convolutions", "folding/planning/absorb.py", "\"kernel\": weights[\"kernel\"] * affine.scale[:, None], \"bias\": _bias_after", "\"kernel\": weights[\"kernel\"] * affine.scale, \"bias\": _bias_after", FOLDING, "torch"),
    Fault("groups ignored", "folding/planning/absorb.py", "np.repeat(values.reshape(layer.groups, inside), out // layer.groups, axis=0).T", "np.tile(values.reshape(layer.groups, inside), (out // layer.groups, 1)).T", FOLDING, "torch"),
    Fault("a shift added twice in a sum", "folding/planning/joins.py", "    if not shifted:\n        return", "    if False:\n        return", FOLDING + " -k add", "torch"),
    Fault("the weight of a term forgotten", "folding/planning/joins.py", "placed.affine.shift / weight", "placed.affine.shift", FOLDING + " -k 'average or difference'", "torch"),
    Fault("channels that another output has, too", "folding/planning/channels.py", "        if any(np.isin(changed, channels).any() for channels in others):", "        if False:", FOLDING + " -k split", "torch"),
    Fault("a mixture of channels taken for one", "folding/planning/channels.py", "    return r, -(r**3)", "    return ()", "tests/folding/planning/test_channels.py", "torch"),
    Fault("a maximum of channels taken for one", "folding/planning/channels.py", "    return r, -(r**3)", "    return r, r**3", "tests/folding/planning/test_channels.py", "torch"),
    Fault("a repeated channel given two maps", "folding/planning/channels.py", "        if not np.array_equal(line[channels], wanted):", "        if False:", FOLDING + " -k channels", "torch"),
    Fault("the offset of a constant not carried", "folding/planning/constants.py", "else (s * b + t - b) / a", "else t / a", FOLDING + " -k 'constants or rescaling'", "torch"),
    Fault("a convolution beside that moves its window", "folding/planning/absorb.py", "whole and set(layer.strides) == {1} and", "set(layer.strides) == {1} and", FOLDING + " -k identity", "torch"),
    Fault("the branch beside folded and added again", "folding/planning/plan.py", "        self.without.setdefault(id(total), set()).add(id(call.outputs[0]))\n", "", FOLDING + " -k identity", "torch"),
    Fault("a shared producer folded", "folding/planning/plan.py", "        if len(users) > 1:\n", "        if len(users) > 10:\n", FOLDING, "torch"),
    Fault("an activation ignored", "folding/planning/absorb.py", "getattr(layer, \"activation\", keras.activations.linear) is not keras.activations.linear", "False", FOLDING, "torch"),
    Fault("outputs of one name behind one Identity each", "folding/building/rewrite.py", "        if (name, dtype) not in self.layers:\n            first", "        if True:\n            first", "tests/folding/building/test_rewrite.py", "torch"),
    Fault("a model with blocks not known again", "folding/building/origin.py", "    path = call.path if named else call.path.rpartition(\"/\")[0]", "    path = call.path", "tests/folding/recording/test_trace.py -k known_again", "torch"),
    Fault("a weight in a configuration shared", "folding/building/rewrite.py", "            if not any(isinstance(leaf, keras.Variable) for leaf in keras.tree.flatten(config)):", "            if True:", "tests/folding/building/test_rewrite.py -k not_shared", "torch"),
    Fault("an output's name left to one of its makers", "folding/building/naming.py", "        makers.setdefault(name, set()).add(0 if call is None or gone else id(call.operation))", "        if call is not None and not gone:\n            makers.setdefault(name, set()).add(id(call.operation))", "tests/folding/building/test_rewrite.py", "torch"),
    Fault("training handed to layers that don't take it", "folding/recording/trace.py", "    return {name: value for name, value in kwargs.items() if name != \"training\"}", "    return kwargs", "tests/folding/recording/test_trace.py -k handed", "torch"),
    Fault("a call recorded outside inference", "folding/recording/block.py", "        outputs = _in_inference(lambda: shadow.call(*args, **kwargs | quiet), _policy(shadow))", "        outputs = shadow.call(*args, **kwargs | quiet)", "tests/folding/recording/test_trace.py -k trains_by_default", "torch"),
    Fault("blocks inside a block left to the backend", "folding/recording/block.py", "        if is_block(shadow, args, kwargs):\n            try:", "        if False:\n            try:", "tests/folding/recording/test_trace.py -k proportion", "torch"),
    Fault("blocks not tried", "folding/recording/trial.py", "            if same is False:", "            if False:", "tests/folding/recording/test_trace.py -k 'draws or asks or dead'", "torch"),
    Fault("one size enough", "folding/recording/trial.py", "_SIZES_TO_PASS = 2", "_SIZES_TO_PASS = 1", "tests/folding/recording/test_trace.py -k asks_for_its_size", "torch"),
    Fault("dead values tried as they are", "folding/recording/trial.py", "    if np.isfinite(exact).all() and exact.min() != exact.max():", "    if True:", "tests/folding/recording/test_trace.py -k dead", "torch"),
    Fault("weights of a call's own as constants", "folding/recording/own_weight.py", "    if anchor is None or policy is None or 0 in variable.shape:", "    if True:", "tests/folding/recording/test_trace.py -k own", "torch"),
    Fault("weights that are computed with at once", "folding/recording/block.py", "        if may_be_symbol(variable, dtype):", "        if False:", "tests/folding/recording/test_trace.py -k however", "torch"),
    Fault("a weight in the type of the layer, not of the call", "folding/recording/block.py", "        dtype = _seen_type(variable, _policy(shadow))\n", "        dtype = variable.dtype\n", "tests/folding/recording/test_trace.py -k 'however and bfloat16'", "torch"),
    Fault("every weight cast in mixed precision", "folding/recording/trace.py", "frame.weight_dtype if keras_private.is_cast(leaf) else None", "frame.weight_dtype", "tests/folding/recording/test_trace.py -k another_layers", "torch"),
    Fault("copied weights cast in mixed precision", "folding/recording/shadow.py", "value.trainable, autocast=cast, name", "value.trainable, name", "tests/folding/recording/test_trace.py -k stays_whole_keeps", "torch"),
    Fault("half precision inside a block overlooked", "folding/proving/float32_copy.py", " or any(layer.compute_dtype in HALF for layer in layers)", "", "tests/folding/recording/test_trace.py -k stays_whole_keeps", "torch"),
    Fault("a block tried without its type", "folding/recording/trial.py", "        if any(keras.backend.standardize_dtype(found[id(x)].dtype) != x.dtype for x in symbols):", "        if False:", "tests/folding/recording/test_trace.py -k another_type", "torch"),
    Fault("one trial for all arguments of a block", "folding/recording/trace.py", "        if id(graph) not in self.problems:", "        if not self.problems:", "tests/folding/recording/test_trace.py -k each_kind", "torch"),
    Fault("steps split off in the batch's place", "folding/recording/time_steps.py", "    return -1, *_closed((steps, *output.shape[1:]))", "    return steps, -1, *_closed(output.shape[1:])", "tests/folding/recording/test_trace.py -k time_steps", "torch"),
]  # fmt: skip

HEALTH = [
    Fault("BatchNorm's averages moved by a look", "health/looking.py", "        with stateless.scope(trainable, carried), watched(", "        with watched(", WATCHED + " -k same_to", "torch"),
    Fault("random numbers drawn by a look", "backends/torch/programs.py", "        torch.set_rng_state(cpu)\n", "        torch.rand(1)\n", WATCHED + " -k same_to", "torch"),
    Fault("hooks left on the layers", "health/calls.py", '            vars(operation).pop("call", None)\n', "            pass\n", WATCHED + " -k no_trace", "torch"),
    Fault("activations of the test mode", "health/forward.py", 'kwargs = {**kwargs, "training": True}', "pass", "tests/health/test_numbers.py -k testing_differs_by", "torch"),
    Fault("dead on the last look alone", "health/findings.py", "np.logical_and.reduce([look.layers[place].silent for look in recent])", "looks[-1].layers[place].silent", WATCHED + " -k all_of_the_last", "torch"),
    Fault("settled before the start is forgotten", "health/findings.py", "LEFT_OF_START = 0.01", "LEFT_OF_START = 2.0", WATCHED + " -k momentum", "torch"),
    Fault("a gap without its mean", "health/arithmetic.py", " + np.square((mean - moving_mean) / t)", "", NUMBERS + " -k gap", "torch"),
    Fault("the mask ignored", "health/measures.py", "    if mask is None:", "    if True:", NUMBERS + " -k mask", "torch"),
    Fault("one channel in sixteen sampled", "health/measures.py", "-(-_size(x) // SAMPLED) | 1", "-(-_size(x) // SAMPLED)", NUMBERS + " -k sampled", "torch"),
    Fault("tanh's limit without its root", "health/activations.py", "math.sqrt(1 - slope)\n    rect", "1 - slope\n    rect", NUMBERS + " -k slope", "torch"),
    Fault("a loop's tensors leaked", "health/forward.py", "if not programs.of_one_program(output, self.beside):", "if False:", WATCHED + " -k loop"),
    Fault("updates drawn by the epoch", "health/plot.py", "v.update_ratio / look.steps", "v.update_ratio", LOOKED + " -k over_epochs", "torch"),
    Fault("limits of the defaults drawn", "health/plot.py", "saturated.axhline(thresholds.saturated", "saturated.axhline(0.5", LOOKED + " -k from_where_on", "torch"),
    Fault("a look's numbers in another order", "health/packing.py", "for part, shape in zip(parts", "for part, shape in zip(parts[::-1]", LOOKED + " -k ALook", "torch"),
    Fault("the change over the new weights", "health/looking.py", "sizes=measures.norms(before)", "sizes=measures.norms(weights)", LOOKED + " -k last_epochs_change", "torch"),
    Fault("tensors of a look kept", "health/forward.py", "        return self._seen._replace(layers=layers), self._measured", "        keras.kept = getattr(keras, 'kept', []) + self._outputs\n        return self._seen._replace(layers=layers), self._measured", LOOKED + " -k lives_on", "torch"),
    Fault("a threshold that is no argument", "health/training_health.py", 'dead=number(name, "dead", dead, low=0, high=1, bounds="(]")', "dead=0.4", LOOKED + " -k are_arguments", "torch"),
    Fault("a look at every epoch", "health/training_health.py", "        if epoch % self.every == 0:\n", "        if True:\n", WATCHED + " -k repeat_the_last", "torch"),
]  # fmt: skip

DOORS = [
    Fault("decay that Keras no longer asks for", "keras_private.py", "    if not any(_names(method, name) for method in methods):", "    if False:", DOOR + " -k misses_a_call", "torch"),
    Fault("a missing hook passed over", "keras_private.py", "        return getattr(owner, name)\n", "        return getattr(owner, name, None)\n", DOOR + " -k first_use_misses", "torch"),
    Fault("a copy with the original's torch parameters", "keras_private.py", 'if k != "_torch_params"}', "}", DOOR + " -k parameters_of_its_own", "torch"),
]  # fmt: skip

PROOFS = [
    Fault("one scale for all channels", "folding/proving/comparison.py", "    if axis is None or array.ndim == 0 or array.size == array.shape[axis]:", "    if True:", PROOF + " -k one_scale", "torch"),
    Fault("errors of folds left to add up", "folding/proving/side_by_side.py", "                b.set(spot, a.value(spot))\n", "                pass\n", "tests/folding/test_promises.py -k chaotic", "torch"),
    Fault("blind outputs taken for good", "folding/proving/outputs.py", "    return bool(effect.difference[0] > row.tolerance * effect.spread[0])", "    return True", PROOF + " -k outputs_alone", "torch"),
    Fault("a caller's inputs ignored", "folding/proving/trial.py", "    if inputs is not None:", "    if False:", PROOF + " -k constant_is_not_seen", "torch"),
    Fault("weights of other layers not compared", "folding/proving/verify.py", "        _require_same_weights(model, tape, origin)\n", "        pass\n", PROOF + " -k 'planted and constant'", "torch"),
    Fault("half precision compared in half", "folding/proving/verify.py", "self.wide = self.half and not self.rounded", "self.wide = False", PROOF + " -k 'planted and mixed'", "torch"),
    Fault("a head compared behind its softmax", "folding/proving/float32_copy.py", "    vars(shadow)[\"activation\"] = keras.activations.linear\n", "", PROOF + " -k before_its_activation", "torch"),
    Fault("tensors on the way taken for equal", "folding/building/origin.py", "    return behind & before", "    return set()", PROOF + " -k moved_forward", "torch"),
    Fault("a check that saw nothing accepted", "folding/proving/verification.py", "        return any(each.seen for each in self.folds or self.outputs)", "        return True", PROOF + " -k constant_is_not_seen", "torch"),
    Fault("a spoiled artifact written", "folding/exporting/export.py", "    if row.refused:", "    if False:", EXPORT + " -k spoiled_artifact", "torch"),
    Fault("the suffix ignored", "folding/exporting/formats.py", "format or said or", "format or", EXPORT + " -k suffix_says", "torch"),
    Fault("a full disk called a failed export", "folding/exporting/destination.py", "            raise OSError(errno.ENOSPC, said, str(path.name)) from error", "            return", EXPORT + " -k dies_half_way", "torch"),
    Fault("two names shortened alike", "folding/report.py", "if each not in taken", "if each", "tests/folding/test_promises.py -k shortened", "torch"),
    Fault("an error of the fold taken for bad input", "__main__.py", "        raise _Failed(f", "        raise _BadInput(f", "tests/test_command_line.py -k fold_itself", "torch"),
]  # fmt: skip

PRECISION = [
    Fault("float64 rounded by Keras's promotion", "keras_private.py", '"BIT64_TO_BIT32_DTYPE": {"float64": "float64",', '"BIT64_TO_BIT32_DTYPE": {"float64": "float32",', SWITCH + " -k leaves_everything"),
    Fault("settings not put back", "precision/switch.py", "        _put(_switched.before)\n", "", SWITCH + " -k leaves_everything"),
    Fault("settings left where enabling fails", "precision/switch.py", "    except BaseException:\n        _put(now)\n", "    except BaseException:\n", SWITCH + " -k cannot_begin"),
    Fault("a block that ends all blocks", "precision/switch.py", "        _put(entry)\n        _switched = switched", "        disable_float64()", SWITCH + " -k inside"),
    Fault("a probe that looks at types alone", "precision/probe.py", 'if kind != "float64" or not error <= TOLERANCE:', 'if kind != "float64":', SWITCH + " -k is_named", "torch"),
    Fault("a scale of attention ignored", "backends/portable/float64.py", "scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale", "scale = 1 / math.sqrt(query.shape[-1])", VALUES + " -k attention"),
    Fault("programs that rounded kept", "backends/jax/float64.py", "        jax.clear_caches()", "        pass", SWITCH + " -k kept"),
    Fault("Python's lists rounded by TensorFlow", "backends/tensorflow/float64.py", "return float in kinds and kinds <= {float, int, bool}", "return False", VALUES + " -k digits", "tensorflow"),
]  # fmt: skip

ROOMS = [  # of files that the lists above leave out
    Fault('a name to be imported later from the wrong room', '__init__.py', '"verify_folding": "folding",', '"verify_folding": "layers",', 'tests/test_import.py', 'torch'),
    Fault('the portable step without decay', 'backends/portable/rules.py', 'x = x - decay * x if decayed else x', 'x = x if decayed else x', 'tests/test_every_optimizer.py -k takes_a_wd_x_off', 'jax'),
    Fault("the whole step tried first by every update", "optimizers/quasi_newton/line_search.py", "    return arrays.smaller(0 * step + 1, step)", "    return 0 * step + 1", INVERSE + " -k search_begins", "torch"),
    Fault("H y without H g of the step before", "optimizers/quasi_newton/inverse_hessian.py", "wide.select(first, y, hg - memory.newton_step)", "wide.select(first, y, hg)", INVERSE, "torch"),
    Fault("a runtime that died taken at its word", "folding/exporting/runtimes.py", "if done.returncode != 0 or not reply.exists():", "if False:", EXPORT + " -k dies", "torch"),
    Fault("a weight on the left taken for one on the right", "folding/recording/variable_view.py", 'f"__{name}__": f"__r{name}__"', 'f"__{name}__": f"__{name}__"', "tests/folding/recording/test_trace.py -k must_be_one", "torch"),
    Fault('a loss without gradient let in on TensorFlow', 'backends/tensorflow/programs.py', 'if all(gradient is None for gradient in gradients) and not part:', 'if False:', 'tests/optimizers/quasi_newton/test_minimize.py -k gradient', 'tensorflow'),
    Fault('a deviation without epsilon', 'compat.py', '(inputs - mean) / (deviation + self.epsilon)', '(inputs - mean) / deviation', 'tests/test_compat.py', 'torch'),
    Fault('open sizes fixed in every trial', 'folding/exporting/feeds.py', '((2, unknown), (_FIXED, unknown), (_FIXED, _FIXED))', '((_FIXED, _FIXED),)', 'tests/export/test_export_folded.py -k open_sizes_past', 'torch'),
    Fault('rows of opaque layers left out', 'folding/fold.py', '            rows += _opaque_rows(call)\n', '            pass\n', 'tests/folding/test_awkward_models.py -k recurrent', 'torch'),
    Fault('whole numbers forgotten by a build', 'folding/recording/signature.py', 'dtype="int32", name=tensor.name) if whole', 'dtype="float32", name=tensor.name) if whole', 'tests/folding/test_promises.py -k whole_numbers', 'torch'),
    Fault('tensors by keyword not among the inputs', 'folding/tape.py', 'return tensors_in((self.args, self.kwargs))', 'return tensors_in(self.args)', "tests/folding/test_awkward_models.py -k 'mask and given'", 'torch'),
    Fault('live units counted as dead', 'health/records.py', 'float(self.silent.mean()) if self.silent.size', 'float(1 - self.silent.mean()) if self.silent.size', 'tests/health -k units_count', 'torch'),
    Fault('a dead layer called healthy', 'health/report.py', 'return all(finding.kind == "frozen"', 'return all(finding.kind != "frozen"', 'tests/health -k planted_fault_comes', 'torch'),
    Fault('a batch of two lengths let in', 'health/batch.py', 'if len(lengths) != 1 or 0 in lengths:', 'if False:', 'tests/health -k refused', 'torch'),
    Fault('a decoupled decay that follows the rate', 'optimizers/adamw.py', 'super().decay(a / self._initial_rate)', 'super().decay(a)', 'tests/optimizers/test_formulas.py -k adamw', 'torch'),
    Fault('ten pairs whatever was asked', 'optimizers/quasi_newton/lbfgs.py', 'return LimitedMemory(self.history_size)', 'return LimitedMemory(10)', 'tests/crash/test_saved_state.py -k another', 'torch'),
    Fault('a trial left in the weights', 'optimizers/quasi_newton/optimizer.py', '                variable.assign(ops.copy(points[id(variable)]))\n', '                pass\n', 'tests/optimizers/quasi_newton/test_optimizer_in_fit.py -k accumulated', 'torch'),
    Fault("a state's numbers not written", 'optimizers/quasi_newton/slots.py', '        for name, variable in self._numbers.items():\n            assign(variable, values[name])\n', '', 'tests/optimizers/quasi_newton/test_bfgs.py -k asks_for', 'torch'),
]  # fmt: skip

FAULTS = [*DOORS, *OPTIMIZERS, *LAYERS, *LBFGS, *FOLDINGS, *PROOFS, *PRECISION, *HEALTH, *ROOMS]
