import numpy as np
import pytest

from unloc_jax.metrics.classification import accuracy_at_k


def test_a_label_counts_among_the_best_k():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 9)), rng.integers(0, 9, 50)
    found = accuracy_at_k(scores, labels, ks=(1, 3, 9))
    for k in (1, 3, 9):
        better = (scores > scores[np.arange(50), labels][:, None]).sum(1)
        assert found[f"top{k}"] == pytest.approx(100 * (better < k).mean())
    assert found["top9"] == 100


def test_of_equal_scores_the_first_is_best():
    assert accuracy_at_k(np.zeros((2, 3)), np.array([0, 1]), ks=(1, 2)) == {"top1": 50, "top2": 100}


def test_more_than_there_are_classes():
    assert set(accuracy_at_k(np.zeros((1, 4)), np.array([0]))) == {"top1"}
    assert set(accuracy_at_k(np.zeros((1, 5)), np.array([0]))) == {"top1", "top5"}
