"""Maps the names that datasets use for their splits to ours."""

import re
from pathlib import Path

from unloc_jax.errors import UserError

SPLITS = ("train", "validation", "test")

_OURS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# "TRAIN", "Val", "test": capitals up to the one that starts the next word, or letters up to the next capital.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of_subset(subset: object) -> str | None:
    """Returns our name for a subset such as "training", "val" or "Testing"; None for unknown ones."""
    return _OURS.get(subset.strip().lower()) if isinstance(subset, str) else None


def split_in_name(path: Path) -> str | None:
    """Returns the split in a file name (see `split_of_file`); None if it contains none or several."""
    splits = _splits_in(path)
    return splits[0] if len(splits) == 1 else None


def split_of_file(path: Path) -> str:
    """Returns the split in a file name: the one whose name (train, val, test, …) is a whole word of it.

    Words end at any character that is not a letter and at a capital ("val_1", "train2", "captionsVal"), so that
    "moment_retrieval_test" and "constraints_val" each contain one split.

    Raises:
      UserError: the name contains no split, or several.
    """
    splits = _splits_in(path)
    if len(splits) == 1:
        return splits[0]
    found = f"it tells several ({', '.join(splits)})" if splits else "it tells none"
    raise UserError(
        f"{path}: the file name must tell the split, because the file does not, but {found}: rename it so that "
        "exactly one of train, val and test is a word of its name, such as captions_val.json."
    )


def _splits_in(path: Path) -> list[str]:
    words = [word.lower() for word in _WORD.findall(path.stem)]
    return sorted({_OURS[word] for word in words if word in _OURS})
