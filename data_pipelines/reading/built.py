"""Finds the dataset in the output folder of a build, and what the build wrote about it."""

from pathlib import Path
from typing import Any

from data_pipelines.remote_paths import storage_path
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json

BUILD_FILE = "build.json"


def find_dataset(out: str | Path) -> Path:
    """Returns the TFDS directory in the `out` of a build; also accepts that directory itself.

    Raises:
      UserError: `out` contains no finished dataset.
    """
    out = storage_path(out)
    if (out / "dataset_info.json").is_file():
        return out
    if (out / BUILD_FILE).is_file():
        found = tfds_directory(out)
        if found is not None:
            return found
    raise UserError(
        f"{out}: no finished dataset here. Build one: "
        f"`unloc data build --dataset NAME --annotations FILE… --videos DIR --out {out}`."
    )


def tfds_directory(out: Path) -> Path | None:
    """Returns the TFDS directory in the `out` of a build, finished or not; None if there is none."""
    found = sorted(out.glob("unloc_data/*/*/dataset_info.json"))
    return found[0].parent if found else None


def read_build_info(out: str | Path) -> dict[str, Any]:
    """Reads the build.json of a dataset.

    Args:
      out: the `out` of a build, or the TFDS directory in it.

    Returns:
      "arguments": of the build; "annotation_files": their paths; "dataset": the annotation parser; "has_frames":
      whether it holds frames; "fps" and "short_side" of these, 0 without; "sound_rate": samples per second, 0 without
      sound; "with_sound": numbers of videos that have sound, by split; "features": width D of precomputed features
      by modality; "feature_settings": settings of `unloc features` by modality; "classes": a list or None; "splits":
      numbers of videos, segments, texts, frames and megabytes by split; "left_out": numbers of videos of the
      annotations that could not be used, and of their segments, by split; "problems": counts by kind, in "annotations"
      and in "videos".

    Raises:
      UserError: `out` contains no finished dataset.
    """
    folder = find_dataset(out).resolve().parents[2]
    try:
        # Datasets built before these keys existed hold frames and no features.
        missing = {"has_frames": True, "features": {}, "feature_settings": {}, "left_out": {}}
        missing |= {"sound_rate": 0, "with_sound": {}}
        return missing | parse_json((folder / BUILD_FILE).read_text("utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / BUILD_FILE}: missing or damaged. Delete {folder} and build again."
        ) from error
