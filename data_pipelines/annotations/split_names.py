"""The names that datasets give to their splits, and ours."""

from pathlib import Path

from unloc_jax.errors import UserError

SPLITS = ("train", "validation", "test")

_OURS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def split_of_subset(subset: object) -> str | None:
    """Our name for a subset such as "training", "val" or "Testing"; None if it is none of these."""
    return _OURS.get(subset.strip().lower()) if isinstance(subset, str) else None


def split_of_file(path: Path) -> str:
    """The split that a file name tells: the first of "train", "val", "test" that it contains.

    Raises:
      UserError: the name contains none of them.
    """
    for part in ("train", "val", "test"):
        if part in path.stem.lower():
            return _OURS[part]
    raise UserError(
        f"{path}: the file name must tell the split, because the file does not: "
        "rename it so that it contains train, val or test."
    )
