"""Suppression of overlapping segments."""

from typing import Any

import jax
import numpy as np

from tests.golden_checks.case import Case, Checked, difference
from unloc_jax.localization.nms import NMSConfig, suppress

jitted = jax.jit(suppress, static_argnums=2)

# The reference's defaults, for arguments that a case lacks.
DEFAULTS = {"max_detections": 100, "iou_threshold": 0.5, "score_threshold": 0.001, "soft_nms_sigma": 0.3}


def check(case: Case) -> Checked:
    """One problem for all classes, one per class (cases named multiclass_*), or one per caption."""
    case.refuse_other_arguments((*DEFAULTS, "num_classes"))
    settings = DEFAULTS | case.arguments
    segments, scores = case.inputs["segments"], case.inputs["scores"]
    if segments.ndim == 3:
        return Checked(_captions(case, settings), ())

    classes = case.inputs["classes"]
    groups = [classes >= 0]
    if case.name.startswith("multiclass"):  # the arguments lack it
        groups = [classes == number for number in range(settings["num_classes"])]
    found = []
    for group in groups:
        kept, decayed = suppressed(segments[group], scores[group], settings)
        found.append((np.flatnonzero(group)[kept], decayed))
    index, decayed = (np.concatenate(parts) for parts in zip(*found))
    index = index.astype(int)
    worst = [
        difference(decayed, case.outputs["scores"]),
        difference(segments[index].reshape(-1, 2), case.outputs["segments"].reshape(-1, 2)),
        difference(classes[index], case.outputs["classes"]),
    ]
    return Checked(max(worst), ())


def _captions(case: Case, settings: dict[str, Any]) -> float:
    worst = [0.0]
    for i, (segments, scores) in enumerate(zip(case.inputs["segments"], case.inputs["scores"])):
        kept, decayed = suppressed(segments, scores, settings)
        worst.append(difference(decayed, case.outputs[f"scores{i}"]))
        worst.append(difference(segments[kept], case.outputs[f"segments{i}"]))
    return max(worst)


def suppressed(
    segments: np.ndarray, scores: np.ndarray, settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(index, decayed score) of what is kept of segments [N, 2], best first."""
    settings = DEFAULTS | settings
    sigma = settings["soft_nms_sigma"]
    return _take(
        segments,
        scores,
        NMSConfig(
            settings["max_detections"],
            "gaussian" if sigma > 0 else "hard",
            sigma,
            settings["iou_threshold"],
            settings["score_threshold"],
            voting_threshold=0.0,
            voting_by_overlap=False,
        ),
    )


def _take(segments: np.ndarray, scores: np.ndarray, settings: NMSConfig) -> tuple[np.ndarray, np.ndarray]:
    """One problem. All are filled up to a few sizes, so that they share compilations."""
    size = 64
    while size < len(scores):
        size *= 2
    all_segments, all_scores = np.zeros((size, 2), np.float32), np.zeros(size, np.float32)
    all_segments[: len(scores)], all_scores[: len(scores)] = segments, scores
    _, found, index = jax.device_get(jitted(all_segments, all_scores, settings))
    return index[found > 0], found[found > 0]
