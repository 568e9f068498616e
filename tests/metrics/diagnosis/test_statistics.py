"""Bins, comparisons, calibration: cases worked out by hand."""

import itertools

import hypothesis
import numpy as np
import pytest

from unloc_jax.metrics.diagnosis.bin_readings import bin_readings
from unloc_jax.metrics.diagnosis.bins import Bins, bins_of
from unloc_jax.metrics.diagnosis.calibration import chance_that_a_hit_scores_higher, reliability
from unloc_jax.metrics.diagnosis.calibration_section import calibration_section
from unloc_jax.metrics.diagnosis.comparison import difference


def test_bins():
    values = np.array([0, 3, 3.1, 6, 100, np.nan])
    bins = bins_of("length", values, (0, 3, 6, np.inf), "s")
    assert bins.index.tolist() == [0, 0, 1, 1, 2, -1]
    assert bins.labels == ("0–3 s", "3–6 s", "> 6 s")
    bins = bins_of("instances", np.array([1.0, 2, 4, 5, 9]), (0, 1, 4, 8, np.inf), "")
    assert bins.labels == ("1", "2–4", "5–8", "> 8")
    assert bins.index.tolist() == [0, 1, 1, 2, 3]
    coverage = bins_of("coverage", np.array([0.01, 0.5, 1.2]), (0, 0.05, 1), "%")
    assert coverage.labels == ("0–5 %", "5–100 %")
    assert coverage.index.tolist() == [0, 1, 1], "what reaches beyond its video is in the last bin"


def test_quintiles_where_edges_tell_nothing():
    bins = bins_of("length", np.arange(1.0, 11), (0, 30, 60, np.inf), "s")
    assert bins.labels == ("0–2.8 s", "2.8–4.6 s", "4.6–6.4 s", "6.4–8.2 s", "> 8.2 s")
    assert np.bincount(bins.index).tolist() == [2] * 5


@hypothesis.given(
    hypothesis.strategies.lists(hypothesis.strategies.floats(0.01, 40), min_size=1, max_size=30)
)
def test_bins_of_quintiles_have_no_gaps(values):
    """Each begins where the one before ends: none in between is empty and missing from tables."""
    bins = bins_of("length", np.round(values, 1), (0, 1000, np.inf), "s")
    filled = np.unique(bins.index)
    assert filled.tolist() == list(range(len(filled)))
    assert len(bins.labels) - len(filled) <= 1
    ends = [label.removesuffix(" s").lstrip("> ").split("–") for label in bins.labels]
    assert all(one[-1] == other[0] for one, other in itertools.pairwise(ends))


def shares(inside_hits, outside_hits, per_video):
    """100 items in and 100 outside of a group, equal ones in one video."""
    hits = np.repeat([1, 0, 1, 0], [inside_hits, 100 - inside_hits, outside_hits, 100 - outside_hits]).astype(
        bool
    )
    return hits, np.arange(200) < 100, np.arange(200) // per_video


def test_what_chance_explains_is_not_said():
    # Standard error of two shares of 100: √(0.5·0.5 / 100 + p(1 - p) / 100), 0.0675 and 0.0678; three of them.
    found = difference(*shares(50, 71, 1))
    assert (found.inside, found.outside) == (0.5, 0.71)
    assert found.points == pytest.approx(-21)
    assert difference(*shares(50, 70, 1)) is None
    # The same shares, but five items of a video always go together: √5 times the error.
    assert difference(*shares(50, 75, 1)) is not None
    assert difference(*shares(50, 75, 5)) is None
    assert difference(*shares(0, 100, 25)) is None, "four videos are too few"
    hits, inside, video = shares(0, 100, 1)
    assert difference(hits, inside & (video > 85), video) is None, "14 items are too few"


def test_readings_are_of_the_bins_that_lose():
    hits, inside, video = shares(30, 80, 1)
    bins = Bins("segment length", ("0–3 s", "3–6 s"), np.where(inside, 0, 1))
    (reading,) = bin_readings(bins, hits, video, "segments", "are found")
    assert reading == (
        "Segments with segment length 0–3 s (100 of 200) lose 50.0 points against the others:"
        " 30.0 % are found, 80.0 % of the others."
    )
    assert bin_readings(bins, ~hits, video, "segments", "are found")[0].startswith(
        "Segments with segment length 3–6 s"
    )
    assert bin_readings(bins, np.ones(200, bool), video, "segments", "are found") == []


def test_calibration():
    score = np.repeat([0.95, 0.15], 20)
    hit = np.arange(40) < 10
    found = reliability(score, hit)
    assert found.count.tolist() == [0, 20, 0, 0, 0, 0, 0, 0, 0, 20]
    assert found.ece == pytest.approx((0.45 * 20 + 0.15 * 20) / 40)
    assert reliability(np.array([1.0]), np.array([True])).count[9] == 1
    assert reliability(np.array([0.5, 1.5]), np.array([True, False])) is None, "no probabilities"
    assert reliability(np.zeros(0), np.zeros(0, bool)) is None


def test_chance_that_a_hit_scores_higher():
    rng = np.random.default_rng(0)
    score, hit = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in score[hit] for b in score[~hit]]
    assert chance_that_a_hit_scores_higher(score, hit) == pytest.approx(np.mean(pairs))
    assert np.isnan(chance_that_a_hit_scores_higher(score, np.zeros(60, bool)))


def test_what_is_said_of_scores():
    hit = np.tile([True, False], 200)
    high = calibration_section(np.full(400, 0.9), hit, "them", 0.5)
    assert "too high, by 40.0 points" in high.readings[-1]
    right = calibration_section(np.full(400, 0.5), hit, "them", 0.5)
    assert "can be read as probabilities" in right.readings[-1]
    mixed = calibration_section(np.where(np.arange(400) < 200, 0.9, 0.1), hit, "them", 0.5)
    assert "some scores are too high, others too low" in mixed.readings[-1]
    logits = calibration_section(np.linspace(-5, 5, 400), hit, "them", 0.5)
    assert "not probabilities" in logits.note
    assert len(logits.tables[0].rows) == 10
    assert not calibration_section(np.array([0.9]), np.array([True]), "them", 0.5).readings
    assert "has no scores" in calibration_section(np.array([np.nan]), np.array([True]), "them", 0.5).note
