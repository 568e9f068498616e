"""What leaves every layer of an image tower."""

import flax.linen as nn
import jax
import numpy as np

from unloc_jax.model.clip import ImageTower
from unloc_jax.model.transformer import Transformer
from unloc_jax.pretrained.clip_model import Clip


def layers_of(clip: Clip, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of frames uint8 [M, H, W, 3]: what goes into the first layer and what leaves every one, and what is pooled.

    Returns:
      [num_layers + 1, M, 1 + patches, W] and [M, W].
    """
    tower = ImageTower(clip.config.image)

    @jax.jit
    def run(params):
        seen = []

        def watch(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if isinstance(context.module, Transformer):
                seen.append(out)
            return out

        with nn.intercept_methods(watch):
            pooled = tower.apply({"params": params}, frames[:, None])
        return seen[0], pooled[:, 0]

    made = [run(_up_to(clip.params["image"], depth)) for depth in range(clip.config.image.num_layers + 1)]
    return np.stack([out for out, _ in made]), np.asarray(made[-1][1])


def _up_to(params: dict, depth: int) -> dict:
    """The layers are scanned, so none can be looked at: those from `depth` on add nothing to what they get."""

    def of_leaf(path, leaf):
        adds = {"attention", "mlp_out"} & {key.key for key in path} and "qkv" not in {key.key for key in path}
        return (
            np.where(np.arange(len(leaf)).reshape(-1, *[1] * (leaf.ndim - 1)) < depth, leaf, 0)
            if adds
            else leaf
        )

    return {**params, "transformer": jax.tree_util.tree_map_with_path(of_leaf, params["transformer"])}
