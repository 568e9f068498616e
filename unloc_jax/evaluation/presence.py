"""Queries without an answer in an evaluation, and the threshold below which a model says "not here"."""

from typing import Any

import numpy as np

from unloc_jax.metrics.generalized_retrieval import set_ious
from unloc_jax.metrics.presence import Calibrated, auroc, calibrate, rejection_scores
from unloc_jax.metrics.tiou import segment_iou
from unloc_jax.tasks.outputs import Presence

KS = (1, 3, 5)
TIOU = (0.5, 0.7)


def presence_metrics(found: Presence, threshold: float | None) -> dict[str, Any]:
    """Returns AUROC, and with a threshold what becomes of queries that are rejected below it, in percent.

    Returns:
      "AUROC", "present", "absent" (numbers of queries); "threshold"; "accuracy"; "Rej-P", "Rej-R", "Rej-F1" of
      rejecting; "G-R1@IoU", the share of queries that are right: present, accepted and found, or absent and rejected;
      "G-mIoU@k" (see `generalized_retrieval.set_ious`).
    """
    present = found.present
    metrics: dict[str, Any] = {
        "AUROC": auroc(present, found.score),
        "present": int(present.sum()),
        "absent": int((~present).sum()),
    }
    if threshold is None:
        return metrics
    rejection = rejection_scores(present, found.score, threshold)
    accepted = found.score > threshold
    first = np.array(
        [
            segment_iou(windows[:1], truth).max(initial=0.0) if len(windows) and len(truth) else 0.0
            for windows, truth in zip(found.found_s, found.truth_s)
        ]
    )
    kept = [windows if yes else windows[:0] for windows, yes in zip(found.found_s, accepted)]
    return metrics | {
        "threshold": threshold,
        "accuracy": rejection["accuracy"],
        "Rej-P": rejection["precision"],
        "Rej-R": rejection["recall"],
        "Rej-F1": rejection["F1"],
        **{
            f"G-R1@{tiou}": 100 * float(np.mean(np.where(present, accepted & (first >= tiou), ~accepted)))
            for tiou in TIOU
        },
        **{f"G-mIoU@{k}": 100 * float(set_ious(found.truth_s, kept, k).mean()) for k in KS},
    }


def calibrated(found: Presence) -> Calibrated | None:
    """Returns the threshold that fits best; None if the queries are all present, or all absent."""
    return calibrate(found.present, found.score)


def presence_lines(metrics: dict[str, Any], where: str) -> list[str]:
    """Returns the lines that show `presence_metrics`; `where`: what to say about the threshold."""
    shown = lambda value: "–" if np.isnan(value) else f"{value:.1f}"
    lines = [
        f"\nqueries without an answer: {metrics['absent']}, with one: {metrics['present']}; "
        f"AUROC {shown(metrics['AUROC'])} %",
        f"  {where}",
    ]
    if "threshold" in metrics:
        names = ("accuracy", "Rej-F1", *(f"G-R1@{t}" for t in TIOU), *(f"G-mIoU@{k}" for k in KS))
        lines += ["  " + "".join(f"{name:>10}" for name in names)]
        lines += ["  " + "".join(f"{shown(metrics[name]):>10}" for name in names)]
    return [*lines, ""]
