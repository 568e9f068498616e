import numpy as np
import pytest

from unloc_jax.metrics.highlights import average_precision, highlight_scores


def by_hand(positive: np.ndarray, scores: np.ndarray) -> float:
    """Sum over the distinct scores, from above, of the precision there × what the recall gains."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        now = (chosen & positive).sum() / positive.sum()
        area += (now - recall) * (chosen & positive).sum() / chosen.sum()
        recall = now
    return area


try:
    from sklearn.metrics import average_precision_score
except ImportError:
    average_precision_score = by_hand


@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision(levels):
    """With three distinct scores most are ties."""
    rng = np.random.default_rng(levels)
    for _ in range(20):
        scores, positive = rng.integers(0, levels, 30) / levels, rng.random(30) < 0.3
        positive[0] = True
        found = average_precision(scores, positive)
        assert found == pytest.approx(by_hand(positive, scores))
        assert found == pytest.approx(average_precision_score(positive, scores))


def test_average_precision_of_a_few():
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision(np.array([1.0, 1.0]), np.array([True, False])) == pytest.approx(0.5)
    assert average_precision(np.array([1.0, 2.0]), np.array([True, False])) == pytest.approx(0.5)


WINDOWS = [np.array([[2.0, 6.0]]), np.array([[0.0, 2.0], [8.0, 10.0]])]
SPANS = [np.array([0.0, 10.0])] * 2


def test_clips_of_two_seconds():
    """Their middles are at 1, 3, 5, 7 and 9 s; curves of 11 points have one at every second."""
    curves = [np.zeros(11), np.zeros(11)]
    curves[0][[3, 5]] = 0.9, 0.8
    curves[1][[1, 3, 9]] = 0.7, 0.9, 0.6
    found = highlight_scores(curves, WINDOWS, SPANS)
    assert found["HIT@1"] == pytest.approx(50)
    assert found["HL-mAP"] == pytest.approx(100 * (1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_a_curve_is_read_between_its_points():
    """Three points, at 0, 5 and 10 s. The clips at 1, 3, 5, 7 and 9 s have 0.2, 0.6, 1, 0.68 and 0.36."""
    found = highlight_scores([np.array([0.0, 1.0, 0.2])], WINDOWS[:1], SPANS[:1])
    # Positive are 5 s, which comes first, and 3 s, which comes third.
    assert found == {"HIT@1": pytest.approx(100), "HL-mAP": pytest.approx(100 * (1 + 2 / 3) / 2)}


def test_times_count_from_the_first_sampled_frame():
    curve = np.zeros(11)
    curve[3] = 1
    later = highlight_scores([curve], [np.array([[22.0, 24.0]])], [np.array([20.0, 30.0])])
    assert later == {"HIT@1": pytest.approx(100), "HL-mAP": pytest.approx(100)}


def test_queries_without_a_positive_clip_do_not_count():
    curve = np.arange(11.0)
    windows = [np.array([[8.0, 10.0]]), np.zeros((0, 2)), np.array([[3.2, 3.4]])]
    found = highlight_scores([curve] * 3, windows, SPANS[:1] * 3)
    assert found == {"HIT@1": pytest.approx(100), "HL-mAP": pytest.approx(100)}
    assert highlight_scores([curve], [np.zeros((0, 2))], SPANS[:1]) == {"HL-mAP": 0, "HIT@1": 0}


def test_a_video_shorter_than_a_clip():
    found = highlight_scores([np.ones(4)], [np.array([[0.0, 1.5]])], [np.array([0.0, 1.5])])
    assert found == {"HIT@1": pytest.approx(100), "HL-mAP": pytest.approx(100)}
