"""Parsers of datasets whose annotations are spread over several files: tiny ones of our own in the official layouts."""

import numpy as np
import pytest

from data_pipelines.annotations import parse
from tests.data_pipelines.test_annotations_formats import rows_of, write
from unloc_jax.errors import UserError


def _files(folder, **contents):
    """Writes files, whose dots are written as two underscores, and returns their paths."""
    return [write(folder, name.replace("__", "."), content) for name, content in contents.items()]


# --- MS-TCN: 50Salads, Breakfast, GTEA


def _ms_tcn(video: str, labels: str, mapping: str = "0 cut_tomato\n1 pour\n2 background\n") -> dict:
    return {f"{video}.txt": labels, "mapping.txt": mapping, "test.split3.bundle": f"{video}.txt\n"}


@pytest.mark.parametrize(
    ("video", "fps"), [("rgb-01-1", 30), ("P03_cam01_P03_cereals", 15), ("S1_Tea_C1", 15)]
)
def test_ms_tcn(tmp_path, video, fps):
    labels = "cut_tomato\n" * 30 + "background\n" * 15 + "pour\n" * 45 + "cut_tomato\n"
    files = [write(tmp_path, name, text) for name, text in _ms_tcn(video, labels).items()]
    parsed = parse("ms_tcn", files)
    assert rows_of(parsed) == [
        (video, "test", 0.0, 30 / fps, "cut_tomato"),
        (video, "test", 45 / fps, 90 / fps, "pour"),
        (video, "test", 90 / fps, np.float32(91 / fps), "cut_tomato"),
    ]
    assert parsed.records[0].duration_s == 91 / fps
    assert (parsed.classes, dict(parsed.problems.counts)) == (["cut_tomato", "pour"], {})


def test_ms_tcn_what_does_not_fit_together(tmp_path):
    files = _ms_tcn("rgb-01-1", "cut_tomato\nSIL\n")
    files |= {"test.split3.bundle": "rgb-01-1.txt\nrgb-09-9.txt\n", "rgb-02-1.txt": "pour\n"}
    parsed = parse("ms_tcn", [write(tmp_path, name, text) for name, text in files.items()])
    assert dict(parsed.problems.counts) == {
        "label that is not in mapping.txt": 1,
        "video without ground truth": 1,
        "video in no bundle": 1,
    }
    assert [text for record in parsed.records for text in record.texts] == ["cut_tomato", "SIL"]
    own = _ms_tcn("kitchen", "pour\n" * 10)
    paths = [write(tmp_path, name, text) for name, text in own.items()]
    with pytest.raises(UserError, match=r"kitchen\.txt: the frame rate of its labels is unknown"):
        parse("ms_tcn", paths)
    rates = write(tmp_path, "rates.csv", "video,fps\nkitchen.mp4,5\n")
    assert rows_of(parse("ms_tcn", [*paths, rates])) == [("kitchen", "test", 0.0, 2.0, "pour")]
    with pytest.raises(UserError, match=r"bundles of the splits 1, 3"):
        parse("ms_tcn", [*paths, rates, write(tmp_path, "train.split1.bundle", "kitchen.txt\n")])
    with pytest.raises(UserError, match="no bundle is given"):
        parse("ms_tcn", paths[:2])
    with pytest.raises(UserError, match="mapping.txt is not given"):
        parse("ms_tcn", [paths[0], paths[2]])
