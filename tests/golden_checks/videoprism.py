"""Compares our VideoPrism with goldens of the original: outputs of small random models in the published layout."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden_checks.result import Result
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.pretrained.videoprism import Unseen, read_videoprism

TOLERANCE = 1e-5

_KNOWN = {
    "patch_size", "pos_emb_shape", "model_dim", "num_spatial_layers", "num_temporal_layers", "num_heads", "mlp_dim",
    "atten_logit_cap", "scan", "num_auxiliary_layers", "vocabulary_size", "enable_causal_atten", "num_unimodal_layers",
    "norm_policy",
}  # fmt: skip


def check(name: str, folder: Path, arrays: dict[str, np.ndarray], meta: dict) -> Result:
    """Compares every output of a golden, and every size that we took from its weights."""
    if unknown := set(meta) - _KNOWN:
        raise ValueError(f"the check does not know the argument {', '.join(sorted(unknown))}")
    if meta.get("norm_policy", "pre") != "pre":
        raise ValueError(f"the product has no norm_policy {meta['norm_policy']}")
    times, *grid = meta["pos_emb_shape"]
    unseen = Unseen(
        float(meta.get("atten_logit_cap", 0.0)), meta.get("enable_causal_atten", True), (grid[0], grid[1])
    )
    weights = read_videoprism(str(folder / f"{name}.weights.npz"), unseen)
    config = weights.config
    found = (
        config.patch_size, config.num_frames, config.width, config.spatial_layers, config.temporal_layers,
        config.num_heads, config.mlp_dim, config.auxiliary_layers, config.text and config.text.vocabulary_size,
        config.text and config.text.num_layers,
    )  # fmt: skip
    keys = ("patch_size", "model_dim", "num_spatial_layers", "num_temporal_layers", "num_heads", "mlp_dim")
    patch, *others = (meta[key] for key in keys)
    wanted = (
        patch, times, *others, meta.get("num_auxiliary_layers", 0), meta.get("vocabulary_size"),
        meta.get("num_unimodal_layers"),
    )  # fmt: skip
    if found != wanted:
        raise ValueError(f"sizes of the weights: {found} instead of {wanted}")

    model = VideoPrism(config)
    videos = jax.jit(lambda frames: model.apply({"params": weights.params}, frames, method="encode_videos"))
    flat = lambda tokens: tokens.reshape(len(tokens), -1, tokens.shape[-1])
    made: dict[str, jax.Array] = {}
    for key in ("frames", "frames_other_size"):
        if key in arrays:
            of_videos = videos(jnp.asarray(arrays[key]))
            end = key.removeprefix("frames")
            made |= {
                f"embeddings{end}": flat(of_videos.tokens),
                f"spatial{end}": flat(of_videos.spatial),
                f"spatiotemporal{end}": flat(of_videos.tokens),
                f"video_embeddings{end}": _unit(of_videos.video),
                f"frame_embeddings{end}": _unit(of_videos.frames),
            }
    if "text_ids" in arrays:
        pieces, mask = jnp.asarray(arrays["text_ids"]), jnp.asarray(arrays["text_paddings"] == 0)
        texts = model.apply({"params": weights.params}, pieces, mask, method="encode_texts")
        made["text_embeddings"] = _unit(jnp.asarray(texts))
    outputs = [
        key for key in arrays if not key.startswith("frames") and key not in ("text_ids", "text_paddings")
    ]
    if unknown := [key for key in outputs if key not in made]:
        raise ValueError(f"the check does not know the output {', '.join(unknown)}")
    errors = {key: _difference(np.asarray(made[key]), arrays[key]) for key in outputs}
    worst = max(errors.values(), default=float("nan"))
    note = ", ".join(f"{key} {error:.0e}" for key, error in errors.items())
    return Result(name, worst, None, None, worst <= TOLERANCE, note)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference; infinite for another shape."""
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
