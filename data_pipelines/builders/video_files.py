"""Finds the file of a video id."""

from pathlib import Path

_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def find_video(folder: Path, video_id: str) -> Path | None:
    """The file `<id>.mp4` (or .mkv, .webm, .avi, .mov), with or without ActivityNet's prefix `v_`."""
    other = video_id.removeprefix("v_") if video_id.startswith("v_") else f"v_{video_id}"
    for name in (video_id, other):
        for extension in _EXTENSIONS:
            path = folder / f"{name}{extension}"
            if path.is_file():
                return path
    return None
