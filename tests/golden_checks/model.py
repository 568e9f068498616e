"""Goldens of whole models: outputs, tokens, loss, metrics and gradients, through the importer."""

from typing import Any

import jax
import numpy as np

from tests.golden_checks import modules, training
from tests.golden_checks.imported import Forward, Golden
from tests.golden_checks.numbers import (
    GRADIENTS,
    LOGITS,
    LOSS,
    largest,
    logits_difference,
    projected_difference,
    relative,
)
from tests.golden_checks.result import Result
from unloc_jax.pretrained.scenic_unloc import to_reference


def check(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Result:
    """Compares one golden of a model, of a single module or of training steps, by the kind that its JSON gives."""
    if "module" in meta["config"]:
        return modules.check(name, arrays, meta)
    if "steps" in meta:
        return training.check(name, arrays, meta)
    golden = Golden(arrays, meta)
    with golden.reference_defects():
        (loss, forward), gradients = jax.jit(jax.value_and_grad(golden.loss, has_aux=True))(golden.params)
    metrics = golden.metrics(forward.all_pairs)
    logits = golden.in_their_layout(forward.all_pairs, arrays["out/logits"].shape)
    outputs = largest([logits_difference(logits, arrays["out/logits"]), *_token_differences(golden, forward)])
    losses = largest(
        [
            relative(loss, float(arrays["out/loss"])),
            *(
                relative(a, b)
                for key, theirs in meta["metrics"].items()
                for a, b in zip(metrics[key], theirs)
            ),
        ]
    )
    apart = projected_difference(
        to_reference(gradients, golden.config, golden.naming),
        arrays,
        "grad",
        float(arrays["grad/global_norm"]),
    )
    passed = outputs <= LOGITS and losses <= LOSS and apart <= GRADIENTS
    return Result(name, outputs, losses, apart, passed, "; ".join(golden.notes))


def _token_differences(golden: Golden, forward: Forward) -> list[float]:
    """Of frames and texts before the fusion; of texts only where they are real."""
    video = logits_difference(forward.video, golden.arrays["out/video_tokens"])
    theirs = golden.arrays["out/text_tokens"]
    ours, mask = np.asarray(forward.text.tokens), np.asarray(forward.text.mask)
    ours = ours.reshape(theirs.shape)
    mask = mask.reshape(theirs.shape[:-1])
    return [video, logits_difference(ours[mask], theirs[mask])]
