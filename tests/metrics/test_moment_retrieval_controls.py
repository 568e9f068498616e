import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unloc_jax.errors import UserError
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.metrics.moment_retrieval_controls import (
    another_query_of_same_video,
    another_videos_query,
    fit_constant_segment,
    right_event_rates,
)
from unloc_jax.metrics.tiou import segment_iou

videos = st.lists(st.integers(0, 4), min_size=1, max_size=20).map(np.array)


def test_constant_segment_covers_the_larger_group_of_train_segments():
    # Three segments at the start, two at the end: 0–0.2 hits the three at IoU 0.5 and no constant hits four.
    train = [[0.0, 0.2], [0.0, 0.2], [0.0, 0.3], [0.8, 1.0], [0.8, 1.0]]
    assert fit_constant_segment(train) == (0.0, 0.2)


def test_constant_segment_breaks_ties_by_mean_iou_then_by_the_earliest():
    assert fit_constant_segment([[0.4, 0.6]], threshold=0.1) == (0.4, 0.6)
    assert fit_constant_segment([[0.6, 0.8], [0.1, 0.3]]) == (0.1, 0.3)


def test_constant_segment_is_the_best_of_the_grid():
    train = np.sort(np.random.default_rng(0).random((200, 2)), axis=1)
    hits = {}
    for start in range(50):
        for end in range(start + 1, 51):
            iou = segment_iou(train, [start / 50, end / 50])
            hits[start / 50, end / 50] = ((iou >= 0.3).sum(), iou.mean())
    best = fit_constant_segment(train, threshold=0.3)
    assert best == max(hits, key=hits.__getitem__)
    # What it is fitted for is what recall at k then counts.
    predictions = [np.array([best])] * len(train)
    recall = recall_at_k(train, predictions, ks=(1,), thresholds=(0.3,))["R1@0.3"]
    assert recall == pytest.approx(hits[best][0] / len(train) * 100)


def test_constant_segment_needs_train_segments():
    with pytest.raises(UserError, match="there are none"):
        fit_constant_segment(np.zeros((0, 2)))


def test_another_query_is_the_next_of_the_video():
    assert another_query_of_same_video([7, 3, 7, 5, 7, 3]).tolist() == [2, 5, 4, -1, 0, 1]
    assert another_query_of_same_video([]).tolist() == []


def test_another_query_asks_for_another_event():
    segments = np.array([[0, 1], [0, 1], [4, 9], [2, 3], [2, 3]])
    # Query 0 and 1 describe the same event; video 1 has a single event, described twice.
    assert another_query_of_same_video([0, 0, 0, 1, 1], segments).tolist() == [2, 2, 0, -1, -1]


@given(videos)
def test_another_query_is_of_the_same_video_and_each_is_used_once(video_index):
    other = another_query_of_same_video(video_index)
    query = np.arange(len(video_index))
    single = np.isin(video_index, [v for v in video_index if (video_index == v).sum() == 1])
    np.testing.assert_array_equal(other == -1, single)
    assert (video_index[other] == video_index)[~single].all()
    assert (other != query).all()
    assert sorted(other[~single]) == query[~single].tolist()


@given(videos, st.integers(0, 3))
def test_another_videos_query_is_of_another_video(video_index, seed):
    other = another_videos_query(video_index, seed)
    if len(set(video_index)) == 1:
        assert (other == -1).all()
    else:
        assert (video_index[other] != video_index).all() and (other >= 0).all()
    np.testing.assert_array_equal(other, another_videos_query(video_index, seed))


def test_another_videos_query_draws_uniformly_and_by_seed():
    video_index = np.array([0, 1, 1, 2])
    draws = np.array([another_videos_query(video_index, seed) for seed in range(600)])
    assert np.bincount(draws[:, 0], minlength=4) == pytest.approx([0, 200, 200, 200], abs=50)
    assert np.bincount(draws[:, 1], minlength=4) == pytest.approx([300, 0, 0, 300], abs=60)


# A video of four events; what a query's prediction hits is written behind it.
EVENTS_S = np.array([[0.0, 10.0], [10.0, 20.0], [20.0, 30.0], [30.0, 40.0]])
ATTRIBUTES = [
    {"object": "circle", "motion": "left"},
    {"object": "circle", "motion": "right"},
    {"object": "square", "motion": "left"},
    {"object": "star", "motion": "up"},
]


def test_right_event_rates_by_hand():
    top1 = np.array(
        [
            [1.0, 9.0],  # its own event
            [2.0, 8.0],  # event 0: same object, wrong motion
            [19.0, 28.0],  # its own event, a little of event 1
            [50.0, 60.0],  # none
        ]
    )
    rates = right_event_rates(top1, EVENTS_S, np.zeros(4, int), ATTRIBUTES)
    assert rates["right_event"] == {"rate": 50.0, "chance": 25.0, "hit_none": 25.0, "count": 4}
    # Pairs that differ only in the motion: 0 and 1. Only in the object: 0 and 2.
    assert rates["differs_only_in"]["motion"] == {"rate": 50.0, "chance": 50.0, "hit_none": 0.0, "count": 2}
    assert rates["differs_only_in"]["object"] == {"rate": 100.0, "chance": 50.0, "hit_none": 0.0, "count": 2}


def test_right_event_compares_within_the_video_only():
    # Every query's prediction is at the other video's event; queries of video 1 come first.
    truth = np.array([[0.0, 10.0], [50.0, 60.0], [20.0, 30.0], [70.0, 80.0], [0.0, 5.0]])
    top1 = np.array([[20.0, 30.0], [70.0, 80.0], [0.0, 10.0], [50.0, 60.0], [0.0, 5.0]])
    rates = right_event_rates(top1, truth, np.array([1, 1, 0, 0, 2]), [{}] * 5)
    # The single query of video 2 has nothing to be confused with and is left out.
    assert rates == {
        "right_event": {"rate": 0.0, "chance": 50.0, "hit_none": 100.0, "count": 4},
        "differs_only_in": {},
    }


def test_two_sentences_about_one_event_are_not_rivals():
    truth = np.array([[0.0, 10.0], [0.0, 10.0], [10.0, 20.0]])
    rates = right_event_rates(truth, truth, np.zeros(3, int), [{}] * 3)
    assert rates["right_event"] == {"rate": 100.0, "chance": 50.0, "hit_none": 0.0, "count": 3}


def test_as_near_to_a_rival_as_to_its_own_event_is_not_right():
    rates = right_event_rates([[5.0, 15.0], [5.0, 15.0]], EVENTS_S[:2], np.zeros(2, int), [{}] * 2)
    assert rates["right_event"] == {"rate": 0.0, "chance": 50.0, "hit_none": 0.0, "count": 2}


def test_nothing_to_compare_is_not_a_number():
    rates = right_event_rates(EVENTS_S[:1], EVENTS_S[:1], np.zeros(1, int), ATTRIBUTES[:1])
    for part in (rates["right_event"], rates["differs_only_in"]["motion"]):
        assert part["count"] == 0
        assert np.isnan([part["rate"], part["chance"], part["hit_none"]]).all()


@pytest.mark.parametrize("n", [2, 4])
def test_hitting_each_event_in_turn_is_right_as_often_as_chance(n):
    truth, video_index = np.tile(EVENTS_S[:n], (3, 1)), np.repeat([5, 6, 7], n)
    turns = [
        right_event_rates(
            np.tile(np.roll(EVENTS_S[:n], turn, axis=0), (3, 1)), truth, video_index, [{}] * (3 * n)
        )
        for turn in range(n)
    ]
    assert np.mean([rates["right_event"]["rate"] for rates in turns]) == 100 / n
    assert {rates["right_event"]["chance"] for rates in turns} == {100 / n}
