"""Recall, frame accuracy, overlaps of offsets, average precision."""

import numpy as np

from tests.golden_checks.case import Case, Checked, difference
from unloc_jax.localization.losses import offsets_center, offsets_iou, offsets_l1
from unloc_jax.metrics.detection import GroundTruth, Predictions, detection_map
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.metrics.segmentation import frame_accuracy

# As the reference makes them; 0.1:0.1:0.9 typed by hand differ in the last bit.
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def check(case: Case) -> Checked:
    if "logits" in case.inputs:
        return _frame_accuracy(case)
    if "counts" in case.inputs:
        return _recall(case)
    if "pred" in case.inputs:
        return _overlaps(case)
    raise ValueError(f"no metric has the inputs {', '.join(case.inputs)}")


def _frame_accuracy(case: Case) -> Checked:
    case.refuse_other_arguments(("threshold", "value"))
    ours = frame_accuracy(case.inputs["logits"], case.inputs["label"], case.arguments["threshold"])
    return Checked(difference(ours, case.arguments["value"]))


def _recall(case: Case) -> Checked:
    names = {name: name.removeprefix("R@").partition(",IOU=") for name in case.arguments}
    ks, _, thresholds = zip(*names.values())
    ours = recall_at_k(
        case.inputs["gt"],
        ranked(case.inputs["segments"], case.inputs["scores"], case.inputs["counts"]),
        sorted(set(map(int, ks))),
        sorted(set(map(float, thresholds))),
    )
    return Checked(
        max(
            difference(ours[f"R{k}@{float(threshold):g}"] / 100, case.arguments[name])
            for name, (k, _, threshold) in names.items()
        )
    )


def _overlaps(case: Case) -> Checked:
    case.refuse_other_arguments(())
    pair = case.inputs["pred"], case.inputs["gt"]
    worst = [
        difference(offsets_iou(*pair), case.outputs["iou"]),
        difference(offsets_l1(*pair), case.outputs["l1"]),
        difference(offsets_center(*pair), case.outputs["center"]),
    ]
    return Checked(max(worst))


def check_average_precision(case: Case) -> Checked:
    case.refuse_other_arguments(("metrics", "num_classes"))
    truth, found = detections(case.inputs)
    ours, empty = reference_names(truth, found, case.arguments["num_classes"])
    expected = case.arguments["metrics"]
    missing = sorted(expected.keys() - ours.keys())
    if missing:
        raise ValueError(f"no metric of ours is {missing[0]}")
    note = "the reference counts classes with neither segments nor predictions as 0: the check does the same"
    return Checked(max(difference(ours[name], value) for name, value in expected.items()), (note,) * empty)


def ranked(segments: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Segments [n, 2] of all queries → one array per query, best first; ties as in the reference."""
    ends = np.cumsum(counts)[:-1]
    return [s[np.argsort(score)[::-1]] for s, score in zip(np.split(segments, ends), np.split(scores, ends))]


def detections(inputs: dict[str, np.ndarray]) -> tuple[GroundTruth, Predictions]:
    """The arrays of a golden, in which the rows of a video are one after the other."""
    video = lambda counts: np.repeat(np.arange(len(counts)), counts)
    truth = GroundTruth(
        video(inputs["groundtruth_counts"]), inputs["groundtruth_classes"], inputs["groundtruth_segments"]
    )
    found = Predictions(
        video(inputs["detection_counts"]),
        inputs["detection_classes"],
        inputs["detection_segments"],
        inputs["detection_scores"],
    )
    return truth, found


def reference_names(
    truth: GroundTruth, found: Predictions, num_classes: int
) -> tuple[dict[str, float], bool]:
    """`detection_map` under the reference's names, in [0, 1]; whether a class has nothing at all."""
    present = np.full((num_classes, len(THRESHOLDS)), np.nan)
    per_class = detection_map(truth, found, THRESHOLDS)["per_class_AP"] / 100
    present[: len(per_class)] = per_class
    empty = ~np.isin(np.arange(num_classes), np.concatenate([truth.class_index, found.class_index]))
    every = np.where(empty[:, None], 0.0, present)
    mean = lambda of_classes, columns: float(np.nanmean(of_classes[:, columns], axis=0).mean())
    names = {"eval_detection/mAP@0.3:0.1:0.7IOU": mean(every, slice(5, 14, 2))}
    for room, of_classes in (("eval_detection", every), ("eval_detection_present_classes", present)):
        names[f"{room}/mAP@0.5:0.05:0.95IOU"] = mean(of_classes, slice(9, None))
        for i, threshold in enumerate(THRESHOLDS):
            names[f"{room}/mAP@{threshold:0.2f}IOU"] = mean(of_classes, slice(i, i + 1))
    for i, of_class in enumerate(every):
        names[f"eval_detection_per_class/avgAP@{i:02d}"] = float(of_class.mean())
    return names, bool(empty.any())
