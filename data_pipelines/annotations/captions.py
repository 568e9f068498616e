"""The layout of ActivityNet Captions, which other datasets also use.

{id: {"duration": s, "timestamps": [[s, s], …], "sentences": ["…", …]}}. An optional "attributes" list, aligned
with "sentences", describes each sentence, such as {"object": "red circle"}.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import entries
from unloc_jax.errors import UserError


def captions_of(path: Path, content: Any, layout: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns (video id, video) for every video of a file's content, each with "timestamps" and "sentences".

    Raises:
      UserError: the content has another layout.
    """
    videos = list(entries(path, content, layout))
    for video_id, video in videos:
        if not isinstance(video, dict) or not all(
            isinstance(video.get(key), list) for key in ("timestamps", "sentences")
        ):
            raise UserError(f'{path}: {layout}; the entry "{video_id}" does not.')
    return videos


def add_captions(
    collector: VideoCollector,
    path: Path,
    videos: list[tuple[str, dict[str, Any]]],
) -> None:
    """Adds the videos of a file, whose name contains the split, to a collector.

    Raises:
      UserError: the file name does not identify one split.
    """
    split = collector.split_of(path)
    for video_id, video in videos:
        timestamps, sentences = video["timestamps"], video["sentences"]
        if not collector.is_new(path, video_id, split, len(timestamps)):
            continue
        where = f"{path.name}: {video_id}"
        if len(timestamps) != len(sentences):
            collector.problems.add(
                "numbers of timestamps and sentences differ",
                where,
                f"{len(timestamps)} timestamps, {len(sentences)} sentences; those without a partner are skipped",
            )
        attributes = video.get("attributes")
        if attributes is None:
            attributes = [None] * len(sentences)
        elif not isinstance(attributes, list) or len(attributes) != len(sentences):
            collector.problems.add(
                "numbers of attributes and sentences differ", where, "the attributes are not used"
            )
            attributes = [None] * len(sentences)
        # The official evaluations count each duplicate.
        maker = collector.maker(
            path, video_id, split, video.get("duration"), text_name="sentence", keep_duplicates=True
        )
        for segment, sentence, attribute in zip(timestamps, sentences, attributes, strict=False):
            maker.add(segment, sentence, attribute)
        collector.keep(maker.finish())
