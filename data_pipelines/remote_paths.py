"""Paths in a cloud, which have the methods of local ones."""

from pathlib import Path


def storage_path(path: str | Path) -> Path:
    """Returns a local path, or one with the same methods for "gs://…" and similar (etils.epath)."""
    if "://" not in str(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)  # type: ignore[return-value]


def is_remote(path: Path) -> bool:
    return not isinstance(path, Path)
