"""The outputs of every layer of an image tower; and a tiny CLIP that reads real words."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np

from tests.pretrained.clip_originals import GOLDENS
from unloc_jax.model.clip import ImageTower
from unloc_jax.model.transformer import Transformer
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.pretrained.clip_source import read_clip
from unloc_jax.text import VOCABULARY_SIZE


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

    # One after the other: each has a copy of the parameters.
    depths = range(clip.config.image.num_layers + 1)
    made = [jax.device_get(run(_up_to(clip.params["image"], depth))) for depth in depths]
    return np.stack([out for out, _ in made]), np.asarray(made[-1][1])


def _up_to(params: dict, depth: int) -> dict:
    """The layers are scanned, so none can be inspected: those from `depth` on add nothing to what they get."""

    def of_leaf(path, leaf):
        adds = {"attention", "mlp_out"} & {key.key for key in path} and "qkv" not in {key.key for key in path}
        return (
            np.where(np.arange(len(leaf)).reshape(-1, *[1] * (leaf.ndim - 1)) < depth, leaf, 0)
            if adds
            else leaf
        )

    return {**params, "transformer": jax.tree_util.tree_map_with_path(of_leaf, params["transformer"])}


def clip_with_all_words() -> Clip:
    """A golden's, with random numbers for all of CLIP's words instead of its 99."""
    clip = read_clip("hf-clip", str(GOLDENS / "hf_gelu_sharded"))
    text = dataclasses.replace(clip.config.text, vocabulary_size=VOCABULARY_SIZE)
    words = np.random.default_rng(0).normal(0, 0.1, (VOCABULARY_SIZE, text.width)).astype(np.float32)
    params = {**clip.params, "text": {**clip.params["text"], "token_embedding": {"embedding": words}}}
    return Clip(dataclasses.replace(clip.config, text=text, end_token=None), params, "random words")
