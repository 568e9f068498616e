"""Finds the files of a video id."""

from pathlib import Path

from data_pipelines.annotations.kinetics import source_of_clip

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def names_of(video_id: str) -> list[str]:
    """The names that files of a video may have, best first.

    Its id; with or without ActivityNet's prefix `v_`; for a clip of Kinetics also the YouTube id alone.
    """
    other = video_id.removeprefix("v_") if video_id.startswith("v_") else f"v_{video_id}"
    source = source_of_clip(video_id)
    return [video_id, other] + ([source] if source else [])


def find_video(folder: Path, video_id: str) -> Path | None:
    """The file `<id>.mp4` (or .mkv, .webm, .avi, .mov), named as `names_of` says."""
    for name in names_of(video_id):
        for extension in VIDEO_EXTENSIONS:
            path = folder / f"{name}{extension}"
            if path.is_file():
                return path
    return None
