"""Targets of moment retrieval, action localisation and segmentation; frames and features that are sampled."""

import jax
import numpy as np

from tests.golden_checks.case import Case, Checked, difference
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.localization.targets import assign_targets
from unloc_jax.sampling import Timeline, features_at, linspace_indices

assign = jax.jit(assign_targets, static_argnums=(2, 3, 4))

_ARGUMENTS = (
    *("task", "num_frames", "total_frames", "sampling", "stride", "max_num_segments", "num_classes"),
    *("levels", "ds", "rr", "radius", "norm", "mincls"),
)
_DEFECT = "at some points the reference takes start and end of different segments: the check does the same"
_ONE_TEXT = "boundaries of all classes together: the check gives all segments to one text"
_OVERLAP = "where segments overlap the reference keeps the last one's class alone: the check does the same"
_ROUNDED = (
    "the reference rounds the weights of interpolation, not the frames, to float32: the check does the same"
)
_NEAREST = "ours is the nearest stored frame, the reference's the one before"
NO_WINDOWS = "the reference's own rule for windows is laid out by the check"


def check(case: Case) -> Checked:
    return _TASKS[case.arguments["task"]](case)


def qualifying(
    segments: np.ndarray, geometry: PyramidGeometry, radius: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The rule of assignment read aloud, for the segments [S, 2] of one text.

    Returns bool [S, P], which point may answer for which segment, and float32 [S, P, 2], the distances of the
    points to start and end in grid units.
    """
    distances = np.stack(
        [geometry.positions - segments[:, :1], segments[:, 1:] - geometry.positions], axis=-1
    )
    farthest = distances.max(-1)
    inside = (distances >= 0).all(-1)
    if radius is not None:
        middle = segments.mean(-1, keepdims=True, dtype=np.float32)
        inside &= np.abs(geometry.positions - middle) <= radius * geometry.strides
    low, high = geometry.ranges.T
    return inside & (farthest >= low) & (farthest < high), distances


def nearest_boundaries(distances: np.ndarray, none: float) -> np.ndarray:
    """[S, P, 2] → [P, 2]: the nearest start before a point and the nearest end after it, whosesoever they are.

    That is how the reference finds offsets, a defect. `none` means no boundary, and it is a number that a
    distance can exceed, because it counts stored frames: the other defect.
    """
    return np.where(distances >= 0, distances, np.inf).min(0, initial=none)


def shortest_boundaries(segments: np.ndarray, distances: np.ndarray, may: np.ndarray) -> np.ndarray:
    """[S, 2], [S, P, 2], [S, P] → [P, 2]: boundaries of the shortest segment that a point may answer for."""
    length = np.where(may, segments[:, 1:] - segments[:, :1], np.inf)
    return distances[length.argmin(0), np.arange(may.shape[1])]


def _localization(case: Case) -> Checked:
    """Relevance everywhere; our offsets where something is relevant; the reference's offsets everywhere."""
    case.refuse_other_arguments(_ARGUMENTS)
    geometry, stride = _geometry(case), _stride(case)
    radius = case.arguments["radius"]
    radius = None if radius is None else radius / stride + _slack(case)
    # Of the reference's offsets, in grid units.
    unit = stride / geometry.strides[:, None] if case.arguments["norm"] else np.float32(stride)
    worst = [
        difference(_point_mask(case, geometry), case.outputs["input_mask"]),
        difference(case.inputs["segment_label"] >= 0, case.outputs["caption_mask"]),
    ]
    per_video = case.arguments["num_classes"] < 0
    compare = _compare_queries if per_video else _compare_classes
    found, notes = compare(case, geometry, radius, unit)
    windows = (NO_WINDOWS,) if case.arguments["sampling"] == "random" else ()
    return Checked(max(*worst, found), notes + windows)


def _compare_queries(
    case: Case, geometry: PyramidGeometry, radius: float | None, unit: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """Every segment has its own query, and the reference's offsets are distances wherever a point is."""
    segments, label = _grid_segments(case), case.inputs["segment_label"]
    relevance, offsets = case.outputs["label"][..., 0], case.outputs["displacements"]
    own = np.where(label < 0, -1, np.arange(len(label)))
    ours = jax.device_get(assign(segments[None], own[None], len(label), geometry, radius))
    ours_offsets = ours.offsets[0] * geometry.strides[:, None] * unit
    _, distances = qualifying(segments, geometry, radius)
    worst = [
        difference(ours.relevance[0], relevance),
        difference(ours_offsets[relevance > 0], offsets[relevance > 0]),
        difference(distances * unit, offsets),
    ]
    return max(worst), ()


def _compare_classes(
    case: Case, geometry: PyramidGeometry, radius: float | None, unit: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """Offsets are the reference's by its rule, and ours by ours, which differ by the reference's defect alone."""
    segments, label = _grid_segments(case), case.inputs["segment_label"]
    num_classes, offsets = case.arguments["num_classes"], case.outputs["displacements"]
    ours = jax.device_get(assign(segments[None], label[None], num_classes, geometry, radius))
    worst = [difference(ours.relevance[0].T, case.outputs["label"])]
    notes: tuple[str, ...] = ()
    if case.arguments["mincls"]:
        everything = np.where(label < 0, -1, 0)
        ours = jax.device_get(assign(segments[None], everything[None], 1, geometry, radius))
        groups = [(label >= 0, offsets, ours.offsets[0, 0])]
        notes = (_ONE_TEXT,)
    else:
        groups = [(label == i, offsets[:, i], ours.offsets[0, i]) for i in range(num_classes)]
    for chosen, theirs, of_group in groups:
        may, distances = qualifying(segments[chosen], geometry, radius)
        nearest = nearest_boundaries(distances, (case.arguments["total_frames"] + 1) / _stride(case))
        worst.append(difference(nearest * unit, theirs))
        some = may.any(0)
        worst.append(difference(of_group[~some], np.zeros_like(of_group[~some])))
        if some.any():
            shortest = shortest_boundaries(segments[chosen], distances, may)[some]
            worst.append(difference((of_group * geometry.strides[:, None])[some], shortest))
            if _DEFECT not in notes and (np.abs(nearest[some] - shortest) > 1e-5).any():
                notes += (_DEFECT,)
    return max(worst), notes


def _segmentation(case: Case) -> Checked:
    case.refuse_other_arguments(("task", "max_num_segments", "num_classes", "num_frames", "total_frames"))
    label, num_frames = case.inputs["segment_label"], case.arguments["num_frames"]
    geometry = PyramidGeometry(num_frames, 1, 2, ((0.0, np.inf),))
    segments = _segments(case) - np.float32(max(0, (case.arguments["total_frames"] - num_frames) // 2))
    own = np.where(label < 0, -1, np.arange(len(label)))
    inside = assign(segments[None], own[None], len(label), geometry, None).relevance[0] > 0
    frames = np.full(num_frames, -1)
    for of_segment, in_segment in zip(label, np.asarray(inside)):
        frames[in_segment] = of_segment
    theirs = case.outputs["label"]
    notes = (_OVERLAP,) * bool((inside.sum(0) > 1).any()) + (NO_WINDOWS,)
    return Checked(difference(frames[:, None] == np.arange(case.arguments["num_classes"]), theirs), notes)


def _interpolation(case: Case) -> Checked:
    case.refuse_other_arguments(("task", "num_frames", "total_frames"))
    features, num_frames = case.inputs["emb"], case.arguments["num_frames"]
    last = len(features) - 1
    exact = np.linspace(0, last, num_frames)
    ours = features_at(features, Timeline(len(features), 0.0, 1.0), exact)
    rounded = np.arange(num_frames, dtype=np.float32) * np.float32(last / (num_frames - 1))
    rounded[-1] = last
    # It takes the frames on both sides from the one, and their weights from the other.
    slope = features[np.ceil(exact).astype(int)] - features[np.floor(exact).astype(int)]
    ours = ours + slope * (rounded % 1.0 - exact % 1.0)[:, None]
    return Checked(difference(ours, case.outputs["emb"]), (_ROUNDED,))


def _frame_indices(case: Case) -> Checked:
    case.refuse_other_arguments(("task", "num_frames", "total_frames"))
    stored, num_frames = case.arguments["total_frames"], case.arguments["num_frames"]
    ours = linspace_indices(stored, num_frames)
    exact = np.linspace(0, stored - 1, num_frames)
    before, after = np.floor(exact), np.ceil(exact)
    start = max(0, (stored - num_frames) // 2)
    worst = [
        difference(before, case.outputs["factory"]),
        difference(before, case.outputs["floor"]),
        difference(after, case.outputs["ceil"]),
        difference((start + np.arange(num_frames)) % stored, case.outputs["middle"]),
        # Ours is the nearer one of the two.
        difference(np.minimum(np.abs(exact - before), np.abs(exact - after)), np.abs(exact - ours)),
    ]
    return Checked(max(worst), (_NEAREST, NO_WINDOWS))


_TASKS = {
    "mr": _localization,
    "tal": _localization,
    "as": _segmentation,
    "interp_emb": _interpolation,
    "linspace_idx": _frame_indices,
}


def _stride(case: Case) -> int:
    """Stored frames per grid unit of a window; frames that are spread over the video are the reference's unit."""
    return case.arguments["stride"] if case.arguments["sampling"] == "random" else 1


def _geometry(case: Case) -> PyramidGeometry:
    given = case.arguments
    levels = len(given["levels"] or [0])
    ranges = np.array(given["rr"] or [[0.0, None]], float)[:levels]
    ranges = np.where(np.isnan(ranges), np.inf, ranges) / _stride(case) - _slack(case)
    return PyramidGeometry(given["num_frames"], levels, given["ds"], tuple(map(tuple, ranges.tolist())))


def _slack(case: Case) -> float:
    """Positions in a window are multiples of half a stored frame; divided by the stride, equal ones could differ."""
    return 1e-3 if case.arguments["sampling"] == "random" else 0.0


def _segments(case: Case) -> np.ndarray:
    """float32 [S, 2] in stored frames; padding is far before the video."""
    return np.stack([case.inputs["segment_start"], case.inputs["segment_end"]], axis=-1).astype(np.float32)


def _grid_segments(case: Case) -> np.ndarray:
    """float32 [S, 2] in grid units, with the reference's rounding: a point on a boundary belongs to the segment."""
    num_frames, total = case.arguments["num_frames"], case.arguments["total_frames"]
    if case.arguments["sampling"] == "linspace":
        return _segments(case) * (np.float32(num_frames - 1) / np.float32(total - 1))
    start = max(0, (total - num_frames * _stride(case)) // 2)
    return (_segments(case) - np.float32(start)) / np.float32(_stride(case))


def _point_mask(case: Case, geometry: PyramidGeometry) -> np.ndarray:
    frames = np.arange(geometry.num_frames) * _stride(case)
    spread = case.arguments["sampling"] == "linspace"
    return geometry.point_mask((frames < case.arguments["total_frames"]) | spread)
