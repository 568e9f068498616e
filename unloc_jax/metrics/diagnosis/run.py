"""`unloc diagnose`: reads two files; prints tables, writes a page and JSON."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import InputWarning
from unloc_jax.metrics.diagnosis import PROTOCOLS
from unloc_jax.metrics.diagnosis.action_sections import diagnose_actions
from unloc_jax.metrics.diagnosis.inputs import read_actions, read_moments
from unloc_jax.metrics.diagnosis.levels import read_pyramid
from unloc_jax.metrics.diagnosis.moment_sections import diagnose_moments
from unloc_jax.metrics.diagnosis.page import to_page
from unloc_jax.metrics.diagnosis.section import Diagnosis
from unloc_jax.metrics.diagnosis.values import to_json
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.presets import preset_of
from unloc_jax.paths import check_output_file
from unloc_jax.whole_writes import write_result


def run_diagnosis(
    protocol: str,
    ground_truth: Path | Annotated,
    predictions: Path,
    out: Path | None = None,
    json_out: Path | None = None,
    **options: Any,
) -> Diagnosis:
    """Prints the tables; writes the page to `out` and the numbers to `json_out`.

    Args:
      protocol, ground_truth, predictions, **options: see `diagnose`.

    Raises:
      UserError: as `diagnose`, or there is no folder to write to.
    """
    check_output_file("--out", out)
    check_output_file("--json", json_out)
    diagnosis = diagnose(protocol, ground_truth, predictions, **options)
    if out:
        write_result(out, to_page(diagnosis))
    if json_out:
        write_result(json_out, json.dumps(to_json(diagnosis), indent=1, allow_nan=False) + "\n")
    show(diagnosis)
    if out:
        show(f"\nwrote {out}")
    if json_out:
        show(f"wrote {json_out}")
    return diagnosis


def diagnose(
    protocol: str,
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    tiou: float = 0.5,
    subset: str | None = None,
    blocked_videos: Path | None = None,
    checkpoint: Path | None = None,
    task: str | None = None,
) -> Diagnosis:
    """Diagnoses a file of predictions; warnings go to stderr.

    Args:
      protocol: one of `PROTOCOLS`, or a dataset's that is (`unloc_jax.metrics.protocols.presets`).
      ground_truth: file, or annotated videos.
      predictions: file.
      tiou: threshold of a hit.
      subset, blocked_videos: of ActivityNet-style ground truth, as in `unloc metrics`.
      checkpoint, task: of the model whose pyramid is compared with the ground truth.

    Raises:
      UserError: as the protocol's readers; there is no such protocol, or it lacks an option.
    """
    name, (protocol, of_dataset) = protocol, preset_of(protocol)
    if protocol not in PROTOCOLS:
        raise UserError(f"--protocol={name}: there are diagnoses for {', '.join(PROTOCOLS)}")
    is_actions = protocol in ("activitynet", "thumos14")
    subset = subset or of_dataset.get("subset")
    for name, value in (("--subset", subset), ("--blocked-videos", blocked_videos)):
        if value is not None and not is_actions:
            raise UserError(f"{name} is not an option of the protocol {protocol}")
    if task is not None and checkpoint is None:
        raise UserError("--task chooses one of a checkpoint's tasks: give --checkpoint=DIR too")
    if not 0 < tiou <= 1:
        raise UserError(f"--tiou: a tIoU threshold is above 0 and at most 1, not {tiou}")
    pyramid = read_pyramid(checkpoint, task) if checkpoint else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        if is_actions:
            actions = read_actions(protocol, ground_truth, predictions, subset, blocked_videos)
            diagnosis = diagnose_actions(actions, protocol, tiou, pyramid)
        else:
            diagnosis = diagnose_moments(read_moments(ground_truth, predictions), protocol, tiou, pyramid)
    for warning in caught:
        show(f"unloc: warning: {warning.message}", file=sys.stderr)
    files = {"predictions file": predictions.name, "ground truth": path_of(ground_truth).name}
    return dataclasses.replace(diagnosis, summary={**files, "protocol": protocol, **diagnosis.summary})
