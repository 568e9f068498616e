"""The values of a prediction: checks, JSON, terminal table."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unloc_jax.inference.predictions import (
    Segment,
    TextPrediction,
    VideoPrediction,
    clock,
    terminal_table,
    to_json,
)
from unloc_jax.video import VideoNote


def prediction() -> VideoPrediction:
    return VideoPrediction(
        "clips/kitchen.mp4",
        np.float32(83.25),
        [
            TextPrediction(
                "a person opens the door",
                [
                    Segment(2.12345678, np.float64(4.9), np.float32(0.912345)),
                    Segment(59.97, 61.0, 0.5),
                    Segment(0, 1, 0.25),
                ],
                np.array([0.5, 1.5, 2.5], np.float32),
                np.array([0.123456, np.nan, 1.0], np.float32),
                [],
            ),
            TextPrediction("a zebra juggles", [], np.zeros(0), np.zeros(0), ["zebra", "juggles"]),
        ],
        {"step": 48000, "dataset": "charades_sta"},
    )


def test_to_json_is_plain_unrounded_and_without_nan():
    data = to_json(prediction())
    assert json.loads(json.dumps(data, allow_nan=False)) == {
        "version": 1,
        "video": "clips/kitchen.mp4",
        "duration_s": 83.25,
        "model": {"step": "48000", "dataset": "charades_sta"},
        "notes": [],
        "texts": [
            {
                "text": "a person opens the door",
                "unknown_words": [],
                "segments": [
                    {"start_s": 2.12345678, "end_s": 4.9, "score": float(np.float32(0.912345))},
                    {"start_s": 59.97, "end_s": 61.0, "score": 0.5},
                    {"start_s": 0.0, "end_s": 1.0, "score": 0.25},
                ],
                "relevance_times_s": [0.5, 1.5, 2.5],
                "relevance": [float(np.float32(0.123456)), None, 1.0],
            },
            {
                "text": "a zebra juggles",
                "unknown_words": ["zebra", "juggles"],
                "segments": [],
                "relevance_times_s": [],
                "relevance": [],
            },
        ],
    }


def test_notes_about_the_video_are_shown():
    noted = dataclasses.replace(prediction(), notes=(VideoNote("HDR is not tone-mapped", "PQ: flatter"),))
    assert to_json(noted)["notes"] == ["HDR is not tone-mapped (PQ: flatter)"]
    assert terminal_table(noted).endswith("\n\nnote: HDR is not tone-mapped (PQ: flatter)")
    assert "note:" not in terminal_table(prediction())


@given(st.floats(0, 1000, width=32))
def test_the_table_and_the_file_show_the_same_seconds(start_s):
    """6.665 s is 6.66 or 6.67 in both: neither rounds what was rounded before."""
    text = TextPrediction("t", [Segment(start_s, 1000.0, 0.5)], np.zeros(0), np.zeros(0), [])
    prediction = VideoPrediction("v", 1000.0, [text], {})
    written = json.loads(json.dumps(to_json(prediction)))["texts"][0]["segments"][0]
    assert f" {written['start_s']:.2f} – " in terminal_table(prediction)
    assert str(text.segments[0]).startswith(f"{written['start_s']:.2f} – ")


def test_terminal_table():
    assert terminal_table(prediction(), top_k=2).splitlines() == [
        "text                     rank          seconds               time  score",
        "-" * 72,
        "a person opens the door     1      2.12 – 4.90  00:02.1 – 00:04.9  0.912",
        "                            2    59.97 – 61.00  01:00.0 – 01:01.0  0.500",
        "a zebra juggles             -       no segment",
        "",
        "Words the model never saw in training (expect less of these texts):",
        "  zebra, juggles  in: a zebra juggles",
    ]


def test_terminal_table_wraps_long_texts_beside_their_segments():
    text = "two people arm-wrestle at a table while their friends cheer"
    found = [Segment(0, 1, 0.5)]
    table = terminal_table(VideoPrediction("v", 9, [TextPrediction(text, found, [], [], [])], {}))
    lines = table.splitlines()[2:]
    assert [line[:44].rstrip() for line in lines] == [
        "two people arm-wrestle at a table while",
        "their friends cheer",
    ]
    assert lines[0].endswith("0.500") and "Words" not in table


@pytest.mark.parametrize(
    ("time_s", "shown"),
    [
        (0, "00:00.0"),
        (9.96, "00:10.0"),
        (59.949, "00:59.9"),
        (59.96, "01:00.0"),
        (3599.97, "1:00:00.0"),
        (3725.3, "1:02:05.3"),
        (-1e-9, "00:00.0"),
    ],
)
def test_clock(time_s, shown):
    assert clock(time_s) == shown


@pytest.mark.parametrize(
    "values",
    [(2, 1, 0.5), (0, float("nan"), 0.5), (0, float("inf"), 0.5), (0, 1, 1.01), (0, 1, float("nan"))],
)
def test_impossible_segments_are_refused(values):
    with pytest.raises(ValueError, match="segment"):
        Segment(*values)


def test_text_prediction_checks_order_and_shapes():
    with pytest.raises(ValueError, match="best first"):
        TextPrediction("t", [Segment(0, 1, 0.1), Segment(0, 1, 0.2)], np.zeros(0), np.zeros(0), [])
    with pytest.raises(ValueError, match=r"\[R\]"):
        TextPrediction("t", [], np.zeros(3), np.zeros(4), [])
    with pytest.raises(ValueError, match="duration_s"):
        VideoPrediction("v", float("nan"), [], {})
