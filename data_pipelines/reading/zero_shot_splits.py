"""Zero-shot splits: training on some of the classes and evaluation on the others."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.queries import not_shown
from unloc_jax.records import VideoRecord


def split_classes(classes: Sequence[str], split: str, seed: int) -> tuple[list[str], list[str]]:
    """Returns (seen, unseen) classes, each in the order of `classes`.

    Args:
      classes: all classes of the dataset.
      split: "all" (nothing unseen), "50/50" or "75/25", the protocol of zero-shot action localisation
        (Ju et al., ECCV 2022, with ten random splits; `seed` selects one of ours).
      seed: determines the seen classes.

    Raises:
      UserError: too few classes to split.
    """
    if split == "all":
        return list(classes), []
    count = round(len(classes) * int(split.split("/")[0]) / 100)
    if not 0 < count < len(classes):
        raise UserError(
            f"config.data.class_split = {split!r}: a dataset of {len(classes)} classes has no such split."
        )
    seen = set(np.random.default_rng(seed).permutation(len(classes))[:count].tolist())
    return [name for i, name in enumerate(classes) if i in seen], [
        name for i, name in enumerate(classes) if i not in seen
    ]


def only_classes(
    records: Sequence[VideoRecord], classes: Sequence[str]
) -> tuple[np.ndarray, list[VideoRecord]]:
    """Returns the indices, int64 [n], of the records with a segment of these classes, and the records themselves
    without their other segments. Segments that the video does not show count, too."""
    wanted = set(classes)
    rows, kept = [], []
    for row, record in enumerate(records):
        which = [i for i, text in enumerate(record.texts) if text in wanted]
        lost = [of for of in not_shown(record) if of.text in wanted]
        if which or lost:
            rows.append(row)
            attributes = [_told(record.attributes[i]) for i in which] or [_told(record.attributes[0])]
            if lost:
                told = [[of.start_s, of.end_s, of.text, of.attributes] for of in lost]
                attributes[0]["not_shown"] = json.dumps(told, ensure_ascii=False)
            kept.append(
                dataclasses.replace(
                    record,
                    segments_s=record.segments_s[which],
                    texts=[record.texts[i] for i in which],
                    attributes=attributes,
                )
            )
    return np.array(rows, np.int64), kept


def _told(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if name != "not_shown"}
