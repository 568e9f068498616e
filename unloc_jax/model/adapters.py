"""Low-rank adapters of frozen towers (LoRA, Hu et al. 2021): a product W x becomes W x + B A x, W stays as it was.

They are parameters beside those that they adapt: "…/mlp_in/kernel" has "…/mlp_in_lora/a" and "…/mlp_in_lora/b". B
begins at 0, so a new model computes what its tower does.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.config import ModelConfig

SUFFIX = "_lora"


class LowRank(nn.Module):
    """Multiplies by A [K, rank], then by B [rank, N].

    Attributes:
      rank: Rank of the product; N is that of the result.
      features: Shape of the result without its first axis; N numbers.
      dtype: Of the computation.
    """

    rank: int
    features: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [M, *features] of x [M, K]."""
        a = self.param("a", nn.initializers.lecun_normal(), (x.shape[-1], self.rank))
        b = self.param("b", nn.initializers.zeros, (self.rank, math.prod(self.features)))
        return (x @ a.astype(self.dtype) @ b.astype(self.dtype)).reshape(-1, *self.features)


def is_adapter(path: tuple) -> bool:
    """Returns whether a parameter, by its path of keys, belongs to an adapter."""
    return any(str(getattr(key, "key", key)).endswith(SUFFIX) for key in path)


def adapted_towers(model: ModelConfig) -> set[str]:
    """Returns the names of the towers that have adapters."""
    towers = {f"towers_{name}" for name, modality in model.modalities.items() if modality.lora_rank}
    return towers | ({"text_tower"} if model.text.lora_rank else set())


def without_base_gradients(model: ModelConfig, params: Any) -> Any:
    """Makes the parameters under adapters constants, so that no gradient of them is computed."""
    towers = adapted_towers(model)
    if not towers:
        return params
    fix = lambda path, leaf: leaf if is_adapter(path) else jax.lax.stop_gradient(leaf)
    return {
        name: jax.tree_util.tree_map_with_path(fix, tree) if name in towers else tree
        for name, tree in params.items()
    }


def merged(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds the adapters' products to the kernels that they adapt, and leaves the adapters out.

    Args:
      arrays: Parameters by name, such as "text_tower/transformer/layers/mlp_in/kernel".
    """
    result = {name: array for name, array in arrays.items() if not is_adapter(tuple(name.split("/")))}
    for name in arrays.keys() - result.keys():
        adapted, _, part = name.rpartition("/")
        if part == "a":
            a, b = (np.asarray(arrays[f"{adapted}/{one}"], np.float64) for one in "ab")
            kernel = f"{adapted.removesuffix(SUFFIX)}/kernel"
            base = np.asarray(result[kernel])
            result[kernel] = (base + (a @ b).reshape(base.shape)).astype(base.dtype)
    return result
