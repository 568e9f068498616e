"""Settings that are right by themselves and make no sense with a dataset are said at the start."""

import dataclasses

import numpy as np
import pytest

from tests.tiny import SOUND, tiny_config, tiny_metadata
from unloc_jax.records import VideoRecord
from unloc_jax.training.config_notes import notes_on


class Videos:
    """Training videos of 10 s by their texts; each text has a segment of `length_s`."""

    def __init__(self, *texts: list[str], length_s: float = 2.0, classes: list[str] | None = None):
        self.metadata = dataclasses.replace(tiny_metadata(), classes=classes or [])
        self._texts, self._length_s = texts, length_s

    def records(self, split):
        assert split == "train"
        segments = lambda n: np.array([[0.0, self._length_s]] * n, np.float32).reshape(-1, 2)
        return [
            VideoRecord(f"v{i}", 10.0, split, segments(len(texts)), texts, [{} for _ in texts])
            for i, texts in enumerate(self._texts)
        ]


TWO = Videos(["a", "b"], ["c", "d"])
CLASSES = Videos(["a", "b"], ["b"], classes=["a", "b"])


@pytest.mark.parametrize(
    ("settings", "videos", "note"),
    [
        ({"batch_size": 2}, TWO, None),
        ({"batch_size": 3}, TWO, "config.batch_size = 3 is more than the 2 training videos"),
        ({"task": "moment_retrieval"}, CLASSES, "the texts of this dataset are 2 classes, and config.task = 'moment"),
        ({"task": "highlight_detection"}, CLASSES, "'temporal_action_localization' searches all videos"),
        ({"task": "temporal_action_localization"}, CLASSES, None),
        ({}, Videos(["a"], ["b", "b"]), "every training video has one text, which is never compared"),
        ({"loss": {"negatives": "batch"}}, Videos(["a"], ["b"]), None),
        ({"contrastive": {"steps": 3}, "loss": {"negatives": "batch"}}, Videos(["a"], ["a"]), "one text only in"),
        ({"task": "classification"}, Videos(["a"], ["a"], classes=["a"]), "there is nothing to tell it from"),
        ({}, Videos(["a", "b"], ["c"], length_s=10), "every training segment is its whole video"),
        ({"task": "classification"}, Videos(["a"], ["b"], length_s=10, classes=["a", "b"]), None),
        ({"model": {"text": {"pooling": "first"}}}, TWO, "sees no word: all texts have the same embedding"),
        ({"model": {"text": {"pooling": "mean"}}}, TWO, None),
        # 8 places in 10 s, which hear 50 ms each.
        ({"model": SOUND}, TWO, "farther apart (up to 1.43 s): up to 96% of a video's sound is not heard. Take"),
        ({"model": {**SOUND, "audio": {"window_s": 1.5}}}, TWO, None),
        ({"model": {**SOUND, "audio": {"window_s": 1.5, "num_mels": 128, "mel_scale": "htk"}}}, TWO, "hear nothing"),
        ({"batch_size": 1}, Videos([]), None),  # a split whose segments are secret
    ],
)  # fmt: skip
def test_notes(settings, videos, note):
    config = tiny_config(**{"batch_size": 1, **settings})
    notes = notes_on(config, videos)
    assert len(notes) == (note is not None), notes
    assert note is None or note in notes[0]
