"""Muon (Jordan et al. 2024): matrices are updated by their orthogonalised momentum, everything else by AdamW with
Nesterov's momentum.

With `consistent_rms` (Liu et al. 2025, arXiv 2502.16982, section 2.2) an update is as large as Adam's, so that the same
learning rates serve both.
"""

import re
from typing import Any

import jax
import optax
from jax.typing import DTypeLike
from optax.contrib import MuonDimensionNumbers, muon

# Kernels that are matrices: a pattern of the name's end → how many of the last axes are inputs and outputs. Axes before
# them (stacked layers) are separate matrices. The first pattern counts; what has none (embeddings, the heads' outputs,
# scales, biases) is AdamW's.
MATRICES: list[tuple[str, tuple[int, int]]] = [
    (r"attention/qkv/kernel", (1, 3)),
    (r"attention/out/kernel", (2, 1)),
    (r"(mlp_in|mlp_out|patch_embedding)/kernel", (1, 1)),
    (r"(video|text|contrastive)_projection/kernel", (1, 1)),
    (r"projections_[^/]+/kernel", (1, 1)),
    (r"conv_\d+/kernel", (2, 1)),
]
_RMS = 0.2  # of an update, about that of Adam's


def scale_by_muon(
    *, b2: float, weight_decay: float, decayed: Any, momentum_dtype: DTypeLike
) -> optax.GradientTransformation:
    """Returns the update before the learning rate, for parameters in nested dictionaries.

    Args:
      b2: of AdamW's second moment; its first has 0.9, Muon's momentum 0.95.
      weight_decay: times the weight, where `decayed` (a function of the parameters, as optax's masks) is True.
      decayed: see weight_decay.
      momentum_dtype: of the momentum.
    """
    return muon(
        -1.0,  # the sign and the rate follow
        adam_b2=b2,
        weight_decay=weight_decay,
        weight_decay_mask=decayed,
        mu_dtype=momentum_dtype,
        muon_weight_dimension_numbers=matrices,
        consistent_rms=_RMS,
    )


def matrices(params: Any) -> Any:
    """Returns which axes of each parameter are a matrix's inputs and outputs; None for AdamW's parameters."""
    return jax.tree_util.tree_map_with_path(_axes, params)


def _axes(path: tuple, leaf: Any) -> MuonDimensionNumbers | None:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, (inputs, outputs) in MATRICES:
        if re.search(rf"(^|/){pattern}$", name):
            first = leaf.ndim - inputs - outputs
            axes = tuple(range(first, leaf.ndim))
            return MuonDimensionNumbers(axes[:inputs], axes[inputs:])
    return None
