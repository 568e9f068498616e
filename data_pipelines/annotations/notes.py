"""Notes on annotations that are valid, yet make their task meaningless or harder than necessary."""

import numpy as np

from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import SPLITS
from unloc_jax.queries import not_shown

# The default of config.data.num_frames, for which a pyramid is suggested.
NUM_FRAMES = 128
_WHOLE = 0.95  # of a video: nothing is left to localise
_MANY = 0.25


def notes_on(parsed: ParsedAnnotations, relative_lengths: np.ndarray) -> list[str]:
    """Returns one sentence for each finding that a user should know before training.

    Args:
      parsed: usable records and classes.
      relative_lengths: float [n], segment length / video length, for segments whose video's length is known.
    """
    records, notes = parsed.records, []
    with_segments = [record for record in records if len(record.segments_s)]
    one_each = len(with_segments) > 1 and all(len(record.segments_s) == 1 for record in with_segments)
    if len(relative_lengths) and (relative_lengths >= _WHOLE).all():
        notes.append(
            "every segment is its whole video, so there is nothing to localise: such clips are for pretraining, "
            "config.task = 'classification' or 'video_text_contrastive' (docs/pretraining.md)"
        )
    elif one_each and parsed.classes is None:
        notes.append(
            "every video has one segment, with a text that is never compared with another one of its video: "
            "config.loss.negatives = 'batch' takes those of other videos"
        )
    elif one_each:
        notes.append(
            "every video has one segment: a model learns that something happens exactly once in each"
        )
    for split in SPLITS:
        of_split = [record for record in records if record.split == split]
        if of_split and not any(len(r.segments_s) or not_shown(r) or r.saliency for r in of_split):
            notes.append(
                f"the split {split!r} has no segments ({len(of_split)} videos): `unloc evaluate` predicts it, for a "
                "server, and scores nothing"
            )
    texts = {text for record in records for text in record.texts}
    if len(records) > 1 and len(texts) == 1:
        notes.append(f"there is one text only, {min(texts)!r}: nothing can be learned about what texts mean")
    if parsed.classes is not None:
        trained = {text for record in records if record.split == "train" for text in record.texts}
        unseen = texts - trained
        if trained and unseen:
            notes.append(
                f"{len(unseen)} of {len(texts)} classes have no training video, such as {min(unseen)!r}"
            )
    short = int((relative_lengths * (NUM_FRAMES - 1) < 1).sum())
    if short and short >= _MANY * len(relative_lengths):
        notes.append(
            f"{short} of {len(relative_lengths)} segments are shorter than the step between two of {NUM_FRAMES} frames "
            "that are spread over the whole video: take more (config.data.num_frames), or windows "
            "(config.data.sampling = 'window', docs/data.md)"
        )
    return notes
