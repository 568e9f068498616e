"""The diagnosis of action detections, section by section."""

import numpy as np

from unloc_jax.metrics.detection import detection_map, recall_at_multiples
from unloc_jax.metrics.diagnosis.action_timelines import action_videos_section
from unloc_jax.metrics.diagnosis.calibration_section import calibration_section
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS
from unloc_jax.metrics.diagnosis.error_sections import confusion_section, error_section, missed_section
from unloc_jax.metrics.diagnosis.errors import TYPES, Errors, find_errors
from unloc_jax.metrics.diagnosis.inputs import Actions
from unloc_jax.metrics.diagnosis.level_section import Produced, Segments, level_section
from unloc_jax.metrics.diagnosis.levels import Pyramid
from unloc_jax.metrics.diagnosis.matches import MULTIPLES, Matches, match_best
from unloc_jax.metrics.diagnosis.section import Diagnosis, Section
from unloc_jax.metrics.diagnosis.sensitivity import action_bins
from unloc_jax.metrics.diagnosis.sensitivity_section import sensitivity_section
from unloc_jax.metrics.diagnosis.shared_sections import curve_section

CURVE_TIOU = np.round(np.arange(0.1, 0.96, 0.05), 2)
_BEST_MULTIPLES = (1, 5)
TERMS = (
    "tIoU is the overlap of two segments: the time that they share, divided by the time that they cover together. A"
    " prediction hits a segment of its class with at least the tIoU that is named. G is the number of segments of a"
    " class. mAP is the average precision, mean over classes, as `unloc metrics` computes it. mAP_N (DETAD) is the same"
    " as if every class had as many segments as classes have on average, so that classes, and parts of the ground"
    " truth, can be compared; it is of the predictions diagnosed."
)


def diagnose_actions(
    actions: Actions, protocol: str, tiou: float = 0.5, pyramid: Pyramid | None = None
) -> Diagnosis:
    """Returns all sections for detections.

    Args:
      protocol: selects the bins, see `bins`.
      tiou: threshold of a hit.
      pyramid: of the model, to check whether its levels fit the ground truth.
    """
    matches = match_best(actions.truth, actions.found, len(actions.classes), tiou)
    errors = find_errors(matches)
    map_n = 100 * float(np.nanmean(errors.ap_n))
    without_length = len(actions.scored.class_index) - len(actions.truth.class_index)
    summary = {
        "videos": actions.num_videos,
        "classes": int(np.count_nonzero(np.bincount(actions.scored.class_index))),
        "ground-truth segments": len(actions.scored.class_index),
        **({"of these without length: diagnosed nowhere": without_length} if without_length else {}),
        "predictions": len(actions.found.score),
        f"diagnosed: best {MULTIPLES}·G of each class": len(matches.row),
        f"mAP at tIoU {tiou:g}": float(detection_map(actions.scored, actions.found, [tiou])["average_mAP"]),
        f"mAP_N at tIoU {tiou:g}": map_n,
    }
    sections = [
        error_section(matches, errors),
        missed_section(matches, errors),
        *(sensitivity_section(matches, bins, map_n) for bins in action_bins(actions, protocol)),
        _levels(actions, matches, errors, pyramid),
        confusion_section(actions.classes, matches, errors),
        _curves(actions),
        calibration_section(
            matches.found.score, matches.hit, f"the {MULTIPLES}·G best predictions of every class", tiou
        ),
        action_videos_section(actions, matches, errors),
    ]
    return Diagnosis(
        "Diagnosis of detections", summary, [section for section in sections if section is not None], TERMS
    )


def _levels(actions: Actions, matches: Matches, errors: Errors, pyramid: Pyramid | None) -> Section | None:
    video = matches.truth.video_index
    produced = None
    if actions.level is not None:
        produced = Produced(actions.level[matches.row], errors.type, TYPES, matches.segment)
    segments = Segments(matches.truth.segments_s, actions.duration_s[video], video, matches.is_found)
    return level_section(segments, produced, pyramid)


def _curves(actions: Actions) -> Section:
    """Shows mAP and recall over tIoU."""
    result = detection_map(actions.scored, actions.found, CURVE_TIOU)
    recall = recall_at_multiples(actions.truth, actions.found, CURVE_TIOU, _BEST_MULTIPLES)
    curves = {"mAP": [result[f"mAP@{t:.2f}"] for t in CURVE_TIOU]}
    for k in _BEST_MULTIPLES:
        curves[f"recall, best {k if k > 1 else ''}n"] = [recall[f"recall@{t:.2f}@{k}"] for t in CURVE_TIOU]
    return curve_section(
        "mAP and recall over tIoU",
        "mAP of all predictions; recall of the n and 5n best predictions of a video and class with n segments, mean"
        " over classes (OpenTAD's top-kx).",
        CURVE_TIOU,
        curves,
        "detections" if len(actions.truth.class_index) >= 5 * LEAST_ITEMS else None,
    )
