"""Parser of TACoS as published by 2D-TAN (and copied by MMN, VSLNet and others).

{"s27-d50.avi": {"timestamps": [[frame, frame], …], "sentences": ["…", …], "fps": 29.4, "num_frames": 8000}}:
times are frame numbers. The files (train.json, val.json, test.json) do not contain their split; it is taken from the
file name. Several people described each video, often with the same words: the official evaluation counts every one of
their sentences, so repeated ones are reported but kept.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.captions import add_captions, captions_of
from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import as_number
from unloc_jax.errors import UserError

_LAYOUT = (
    'TACoS looks like {"s27-d50.avi": {"timestamps": [[172, 331], …], "sentences": ["…", …], "fps": 29.4, '
    '"num_frames": 8213}, …}, with times as frame numbers'
)


def parse_tacos(files: list[Path]) -> ParsedAnnotations:
    """Reads TACoS files; the texts are per-video queries.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    for path in files:
        videos = []
        content = read_json(path, collector.problems, _LAYOUT)
        for video_id, video in captions_of(path, content, _LAYOUT):
            fps = as_number(video.get("fps"))
            if fps is None or fps <= 0:
                raise UserError(f'{path}: {_LAYOUT}; "fps" of the entry "{video_id}" is not a frame rate.')
            videos.append((video_id, _in_seconds(video, fps)))
        add_captions(collector, path, videos)
    return collector.parsed


def _in_seconds(video: dict[str, Any], fps: float) -> dict[str, Any]:
    """Returns the video with "timestamps" and "duration" in seconds; keeps non-numbers, which are reported later."""

    def seconds(frame: Any) -> Any:
        number = as_number(frame)
        return frame if number is None else number / fps

    timestamps = [
        [seconds(bound) for bound in segment] if isinstance(segment, list) else segment
        for segment in video["timestamps"]
    ]
    return {**video, "timestamps": timestamps, "duration": seconds(video.get("num_frames"))}
