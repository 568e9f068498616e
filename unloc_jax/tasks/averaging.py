"""Averages over prompts of a text and crops of a video."""

from typing import Any

import jax
import jax.numpy as jnp

from unloc_jax.model.clip import TextFeatures

Texts = jax.Array | TextFeatures


def mean_over_crops(outputs: Any, crops: int) -> Any:
    """Averages every `crops` successive rows: float arrays [B · crops, …] → [B, …]."""
    if crops == 1:
        return outputs
    return jax.tree.map(lambda x: x.reshape(-1, crops, *x.shape[1:]).mean(1), outputs)


def mean_over_prompts(of_prompt: Any, texts: Texts) -> Any:
    """Averages of_prompt(texts [b, N, …]) over the R prompts of texts [b, N, R, …], one prompt at a time."""
    if jax.tree.leaves(texts)[0].shape[2] == 1:
        return of_prompt(jax.tree.map(lambda x: x[:, :, 0], texts))
    each = jax.lax.map(of_prompt, jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), texts))
    return jax.tree.map(lambda x: x.mean(0), each)
