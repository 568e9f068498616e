import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unloc_jax.metrics.matching import greedy_matches, interpolated_average_precisions, overlapping_pairs


@pytest.mark.parametrize(
    ("hits", "positives", "ap"),
    [
        ([True, True], 2, 1.0),
        ([True, True], 4, 0.5),
        ([False, True], 1, 1 / 2),
        # Precision 1, 1/2, 2/3, 2/4, 3/5: interpolated 1, 2/3, 2/3, 3/5, 3/5.
        ([True, False, True, False, True], 3, (1 + 2 / 3 + 3 / 5) / 3),
        ([False, False], 2, 0.0),
        ([], 2, 0.0),
    ],
)
def test_interpolated_average_precision(hits, positives, ap):
    position = 1 + np.flatnonzero(hits)
    found = interpolated_average_precisions(np.zeros(len(position), int), position, np.array([positives]))
    assert found.tolist() == pytest.approx([ap], rel=1e-15)


@settings(max_examples=50, deadline=None)
@given(st.lists(hnp.arrays(bool, st.integers(0, 12)), min_size=1, max_size=6))
def test_groups_do_not_see_each_other(rows):
    positions = [1 + np.flatnonzero(row) for row in rows]
    positives = np.array([1 + len(row) for row in rows])
    group = np.repeat(np.arange(len(rows)), [len(p) for p in positions])
    together = interpolated_average_precisions(group, np.concatenate(positions), positives)
    alone = [
        interpolated_average_precisions(np.zeros(len(p), int), p, positives[i : i + 1])[0]
        for i, p in enumerate(positions)
    ]
    np.testing.assert_array_equal(together, alone)


def test_pairs_are_of_one_group_and_overlap_enough():
    truth = np.array([[0.0, 10.0], [5.0, 15.0], [0.0, 10.0]])
    found = np.array([[0.0, 10.0], [4.0, 14.0], [0.0, 10.0]])
    pairs = overlapping_pairs(np.array([7, 7, 9]), truth, np.array([7, 7, 8]), found, 0.3)
    assert list(zip(pairs.prediction, pairs.segment)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert pairs.iou.tolist() == pytest.approx([1, 5 / 15, 6 / 14, 9 / 11])
    best = pairs.best_first(np.array([1, 0]))
    assert list(zip(best.prediction, best.segment)) == [(0, 1), (0, 0), (1, 0), (1, 1)]


def test_blocks_of_pairs_join():
    # More predictions than one block holds, each with exactly one partner.
    group = np.arange(70_000)
    segments = np.tile([0.0, 1.0], (len(group), 1))
    pairs = overlapping_pairs(group[::-1], segments, group, segments, 0.5)
    np.testing.assert_array_equal(pairs.prediction, group)
    np.testing.assert_array_equal(pairs.segment, group[::-1])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), unique=True, max_size=5), max_size=9))
def test_greedy_matches_equals_one_after_the_other(preferences):
    holder = np.full(5, -1)
    for prediction, wishes in enumerate(preferences):
        free = [segment for segment in wishes if holder[segment] < 0]
        if free:
            holder[free[0]] = prediction
    prediction = np.repeat(np.arange(len(preferences)), [len(wishes) for wishes in preferences])
    segment = np.array([segment for wishes in preferences for segment in wishes], int)
    np.testing.assert_array_equal(greedy_matches(prediction, segment, 5), holder)
