import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.golden_checks.metrics import ranked
from tests.metrics.references import GOLDENS
from unloc_jax.errors import UserError
from unloc_jax.metrics.moment_retrieval import recall_at_k

# Four queries, IoU of their predictions in brackets.
GROUND_TRUTH_S = np.array([[0.0, 10.0], [20.0, 30.0], [5.0, 15.0], [0.0, 8.0]])
PREDICTIONS_S = [
    np.array([[0.0, 10.0], [50.0, 60.0]]),  # [1, 0]
    np.array([[40.0, 50.0], [20.0, 24.0], [20.0, 30.0]]),  # [0, 0.4, 1]
    np.array([[5.0, 10.0]]),  # [0.5], exactly at the threshold
    np.zeros((0, 2)),  # no prediction
]


def test_by_hand():
    assert recall_at_k(GROUND_TRUTH_S, PREDICTIONS_S, ks=(1, 2, 5)) == {
        **{"R1@0.3": 50.0, "R1@0.5": 50.0, "R1@0.7": 25.0},
        **{"R2@0.3": 75.0, "R2@0.5": 50.0, "R2@0.7": 25.0},
        **{"R5@0.3": 75.0, "R5@0.5": 75.0, "R5@0.7": 50.0},
        "mIoU": 37.5,
    }


def test_reads_nothing_behind_the_kth_prediction():
    predictions = [np.vstack([p, np.tile(g, (9, 1))]) for p, g in zip(PREDICTIONS_S[:3], GROUND_TRUTH_S)]
    short = [p[:1] for p in predictions]
    assert recall_at_k(GROUND_TRUTH_S[:3], predictions, ks=(1,)) == recall_at_k(
        GROUND_TRUTH_S[:3], short, ks=(1,)
    )


@pytest.mark.parametrize("case", range(4))
def test_equals_the_reference(case):
    golden = {
        key: GOLDENS[f"recall{case}/{key}"] for key in ("gt", "counts", "segments", "scores", "expected")
    }
    recall = recall_at_k(golden["gt"], ranked(golden["segments"], golden["scores"], golden["counts"]))
    got = [[recall[f"R{k}@{threshold}"] for threshold in (0.3, 0.5, 0.7)] for k in (1, 5)]
    np.testing.assert_allclose(got, 100 * golden["expected"], rtol=1e-12)


@st.composite
def queries(draw):
    n = draw(st.integers(1, 6))
    seconds = st.integers(0, 30).map(float)
    truth = np.sort(draw(hnp.arrays(float, (n, 2), elements=seconds)), axis=1) + np.array([0, 1])
    return truth, [draw(hnp.arrays(float, (draw(st.integers(0, 6)), 2), elements=seconds)) for _ in range(n)]


@settings(max_examples=50, deadline=None)
@given(queries())
def test_more_predictions_help_and_stricter_thresholds_do_not(case):
    ks, thresholds = (1, 2, 3, 6), (0.1, 0.3, 0.5, 0.9)
    recall = recall_at_k(*case, ks, thresholds)
    table = np.array([[recall[f"R{k}@{t}"] for t in thresholds] for k in ks])
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) <= 0).all()
    assert 0 <= table.min() <= table.max() <= 100


@settings(max_examples=50, deadline=None)
@given(queries())
def test_perfect_first_predictions_score_100(case):
    truth, predictions = case
    perfect = [np.vstack([t, p]) for t, p in zip(truth, predictions)]
    assert set(recall_at_k(truth, perfect).values()) == {100.0}


@pytest.mark.parametrize(
    ("ground_truth", "predictions", "message"),
    [
        (np.zeros((0, 2)), [], "empty"),
        (GROUND_TRUTH_S, PREDICTIONS_S[:3], "4 ground-truth segments, but 3 predictions"),
        (
            GROUND_TRUTH_S,
            [*PREDICTIONS_S[:3], np.array([[0, np.nan]])],
            "not finite in 1 of 4 rows, first in row 3",
        ),
        (np.full((4, 2), np.inf), PREDICTIONS_S, "not finite in 4 of 4 rows, first in row 0"),
        (GROUND_TRUTH_S, [*PREDICTIONS_S[:3], np.zeros((7, 3))], r"row 3 has shape \(7, 3\)"),
    ],
)
def test_refuses(ground_truth, predictions, message):
    with pytest.raises(UserError, match=message):
        recall_at_k(ground_truth, predictions)
