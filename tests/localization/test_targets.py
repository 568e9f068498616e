import jax
import numpy as np
import pytest

from tests.golden_checks.labels import assign, nearest_boundaries, qualifying, shortest_boundaries
from tests.localization.references import load_goldens
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges

GOLDENS = load_goldens("targets")
MOMENT_RETRIEVAL = [name for name in GOLDENS if name.startswith("mr_")]
ACTION_LOCALIZATION = [name for name in GOLDENS if name.startswith("tal_")]


def geometry_of(case) -> PyramidGeometry:
    return PyramidGeometry(
        int(case["num_frames"]),
        int(case["num_levels"]),
        int(case["stride"]),
        tuple(map(tuple, case["ranges"])),
    )


def radius_of(case) -> float | None:
    return None if np.isnan(case["radius"]) else float(case["radius"])


def grid_segments(case) -> np.ndarray:
    """float32 [B, S, 2]: the reference's frame indices (padding is -1000) in grid units."""
    scale = np.float32((case["num_frames"] - 1) / (case["total_frames"] - 1))
    return np.stack([case["start"], case["end"]], axis=-1).astype(np.float32) * scale[:, None, None]


def offsets_in_strides(case, geometry) -> np.ndarray:
    return case["offsets"] if case["normalized"] else case["offsets"] / geometry.strides[:, None]


@pytest.mark.parametrize("name", MOMENT_RETRIEVAL)
def test_moment_retrieval_targets_equal_the_reference(name):
    case = GOLDENS[name]
    geometry = geometry_of(case)
    # Each segment has its own query.
    segment_text = np.where(case["label"] < 0, -1, np.arange(case["label"].shape[1]))
    targets = jax.device_get(
        assign(grid_segments(case), segment_text, segment_text.shape[1], geometry, radius_of(case))
    )
    assert case["relevance"].any(axis=(1, 2)).all()  # every golden has a positive point
    np.testing.assert_array_equal(targets.relevance, case["relevance"])
    np.testing.assert_allclose(
        targets.offsets * targets.relevance[..., None],
        offsets_in_strides(case, geometry) * case["relevance"][..., None],
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ACTION_LOCALIZATION)
def test_action_localization_targets_equal_the_reference_but_for_its_defects(name):
    """The relevance is equal everywhere, and so are the offsets where a class has one segment.

    Where it has several, the reference takes the nearest start before the point and the nearest end after it,
    whosesoever they are. And no distance exceeds the number of stored frames + 1, because it takes that for
    "none", although it counts sampled frames, of which a short video has more than it has stored ones.
    """
    case = GOLDENS[name]
    geometry, radius, segments = geometry_of(case), radius_of(case), grid_segments(case)
    targets = jax.device_get(assign(segments, case["label"], case["relevance"].shape[1], geometry, radius))
    np.testing.assert_array_equal(targets.relevance, case["relevance"])

    points = 0
    for video, text in np.ndindex(case["relevance"].shape[:2]):
        of_text = segments[video][case["label"][video] == text]
        may, distances = qualifying(of_text, geometry, radius)
        if not may.any():
            continue
        some = may.any(0)
        strides = geometry.strides[some, None]
        ours, theirs = (x[video, text, some] for x in (targets.offsets, offsets_in_strides(case, geometry)))

        nearest = nearest_boundaries(distances, case["total_frames"][video] + 1)[some]
        np.testing.assert_allclose(theirs, nearest / strides, atol=1e-5)
        shortest = shortest_boundaries(of_text, distances, may)[some]
        np.testing.assert_allclose(ours, shortest / strides, atol=1e-5)
        points += some.sum()
    assert points > 30


TWO_LEVELS = PyramidGeometry(8, 2, 2, ((0.0, 4.0), (4.0, np.inf)))


def test_by_hand():
    segments = np.array([[[1.0, 3.5], [0.0, 7.0]]], np.float32)
    targets = assign(segments, np.array([[0, 1]]), 3, TWO_LEVELS)
    # Text 0: frames 1, 2, 3 of level 0, whose farther boundary is less than 4 away.
    np.testing.assert_array_equal(targets.relevance[0, 0], [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(targets.offsets[0, 0, 1:4], [[0, 2.5], [1, 1.5], [2, 0.5]])
    # Text 1: its farther boundary is 4 or more away from every frame, so level 1 (frames 0, 2, 4, 6) answers.
    np.testing.assert_array_equal(targets.relevance[0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(targets.offsets[0, 1, 8:], [[0, 3.5], [1, 2.5], [2, 1.5], [3, 0.5]])
    # Text 2 has no segment; where nothing is relevant the offsets are 0.
    assert not targets.relevance[0, 2].any()
    np.testing.assert_array_equal(targets.offsets[targets.relevance == 0], 0)


def test_the_radius_counts_strides():
    segments = np.array([[[0.0, 7.0]]], np.float32)
    targets = assign(segments, np.array([[0]]), 1, TWO_LEVELS, 1.0)
    # Level 1: frames within 2 of the centre 3.5.
    np.testing.assert_array_equal(targets.relevance[0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0])


def test_padding_and_the_order_of_segments_do_not_matter():
    rng = np.random.default_rng(0)
    segments = np.sort(rng.uniform(0, 7, (3, 5, 2)), axis=-1).astype(np.float32)
    text = rng.integers(0, 2, (3, 5))
    text[:, 4] = -1
    expected = assign(segments[:, :4], text[:, :4], 2, TWO_LEVELS)
    assert expected.relevance.any()
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        targets = assign(segments[:, order], text[:, order], 2, TWO_LEVELS)
        np.testing.assert_array_equal(targets.relevance, expected.relevance)
        np.testing.assert_array_equal(targets.offsets, expected.offsets)


def test_one_level_answers_for_everything():
    geometry = PyramidGeometry(4, 1, 2, default_regression_ranges(1))
    targets = assign(np.array([[[0.0, 3.0]]], np.float32), np.array([[0]]), 1, geometry)
    np.testing.assert_array_equal(targets.relevance[0, 0], [1, 1, 1, 1])
