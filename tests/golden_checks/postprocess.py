"""Points to segments in seconds."""

import jax
import numpy as np

from tests.golden_checks.case import Case, Checked, difference
from tests.golden_checks.labels import NO_WINDOWS
from unloc_jax.localization.decode import Localization, decode, grid_to_seconds
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges
from unloc_jax.localization.nms import NMSConfig

jitted = jax.jit(decode, static_argnums=(3, 4))
_ARGUMENTS = (
    *("num_frames", "total_frames", "sampling", "stride", "secs_per_timestep", "score_threshold"),
    *("pyramid", "normalize_by_stride", "normalizer"),
)
KEEP_ALL = (
    1e9  # this wide a decay of soft-NMS is none: candidates come back sorted and otherwise as they were
)


def check(case: Case) -> Checked:
    case.refuse_other_arguments(_ARGUMENTS)
    given = case.arguments
    per_video = "caption_mask" in case.inputs
    probability, offsets = case.inputs["probs"], case.inputs["displacements"]
    if not per_video:  # classes last → first
        probability, offsets = probability.T, np.moveaxis(offsets, 1, 0)
    geometry = _geometry(
        given["num_frames"], probability.shape[1] if given["pyramid"] else given["num_frames"]
    )

    total, seconds = given["total_frames"], given["secs_per_timestep"]
    if given["sampling"] == "random":  # the window in the middle
        step = given["stride"]
        first = max(0, (total - geometry.num_frames * step) // 2)
        last = first + (geometry.num_frames - 1) * step
        # Distances are shares of the video or of the window, or stored frames.
        unit = {"duration": total, "sampled_span": geometry.num_frames * step, "none": 1}[given["normalizer"]]
        offsets = offsets * np.float32(unit / step)
    else:
        first, last = 0, total - 1
    if not given["normalize_by_stride"]:
        offsets = offsets / geometry.strides[:, None]
    span_s = first * seconds, last * seconds

    segments_s, scores = decode_points(
        probability, offsets, np.ones(geometry.num_frames, bool), span_s, geometry
    )
    distances = offsets * geometry.strides[:, None]
    whole = np.stack(
        [geometry.positions - distances[..., 0], geometry.positions + distances[..., 1]], axis=-1
    )
    whole_s = np.array(grid_to_seconds(whole[None], np.array([span_s], np.float32), geometry.num_frames)[0])
    # The reference cuts off at the video's first frame and one frame after its last; ours at the sampled span.
    end_s = total * seconds
    whole_s = np.stack([np.maximum(whole_s[..., 0], 0.0), np.minimum(whole_s[..., 1], end_s)], axis=-1)

    # The reference's masks are of points, and random.
    points = case.inputs["mask"] > 0
    if per_video:
        real = np.ix_(case.inputs["caption_mask"] > 0, points)
        select = lambda x: x[real]
    else:
        enough = points[:, None] & ~(given["score_threshold"] > probability.T)
        select = lambda x: np.swapaxes(x, 0, 1)[enough]
    theirs = case.outputs["segments"]
    ours = select(segments_s)
    ours = np.stack([ours[..., 0], np.minimum(ours[..., 1], end_s)], axis=-1)
    common = np.stack([np.maximum(theirs[..., 0], span_s[0]), np.minimum(theirs[..., 1], span_s[1])], axis=-1)
    worst = [
        difference(select(scores), case.outputs["scores"]),
        difference(select(whole_s), theirs),
        difference(ours, common),
    ]
    if not per_video:
        worst.append(difference(enough.nonzero()[1], case.outputs["classes"]))
    notes = ("the reference lets segments end one frame after the last sampled one, ours end there",)
    return Checked(max(worst), notes + (NO_WINDOWS,) * (given["sampling"] == "random"))


def decode_points(
    probability: np.ndarray,
    offsets: np.ndarray,
    frame_mask: np.ndarray,
    span_s: tuple[float, float],
    geometry: PyramidGeometry,
) -> tuple[np.ndarray, np.ndarray]:
    """decode() without suppression, put back into the order of points: seconds [N, P, 2] and scores [N, P]."""
    probability = np.clip(probability, 1e-30, 1.0)  # 0 is not a detection
    found = jax.device_get(
        jitted(
            Localization(np.log(probability / (1 - probability))[None], offsets[None]),
            frame_mask[None],
            np.array(span_s, np.float32)[None],
            geometry,
            NMSConfig(geometry.num_points, "gaussian", KEEP_ALL, 0.0, 0.0, 0.0, False),
        )
    )
    segments, scores = np.zeros((*probability.shape, 2)), np.zeros(probability.shape)
    for text in range(len(probability)):
        real = found.scores[0, text] > 0
        segments[text, found.point[0, text, real]] = found.segments_s[0, text, real]
        scores[text, found.point[0, text, real]] = found.scores[0, text, real]
    return segments, scores


def _geometry(num_frames: int, num_points: int) -> PyramidGeometry:
    """The pyramid with so many points: the file does not have the number of its levels."""
    for stride in (2, 4, 3):
        for levels in range(1, 9):
            geometry = PyramidGeometry(num_frames, levels, stride, default_regression_ranges(levels))
            if geometry.num_points == num_points:
                return geometry
    raise ValueError(f"no pyramid over {num_frames} frames has {num_points} points")
