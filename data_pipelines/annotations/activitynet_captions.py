"""ActivityNet Captions: {id: {"duration": s, "timestamps": [[s, s], …], "sentences": ["…", …]}}.

The files (train.json, val_1.json, val_2.json) do not say their split: it is taken from the file name. An
optional "attributes" list, aligned with "sentences", says what each sentence is made of, such as {"object":
"red circle"}.
"""

from pathlib import Path

from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.segments import RecordMaker
from data_pipelines.annotations.split_names import split_of_file
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

_LAYOUT = '{"<id>": {"duration": 55.15, "timestamps": [[0.28, 55.15], …], "sentences": ["…", …]}, …}'


def parse_activitynet_captions(files: list[Path]) -> ParsedAnnotations:
    """Reads ActivityNet Captions files; the texts are per-video queries, so `classes` is None.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or its name does not tell one split.
    """
    parsed = ParsedAnnotations(records=[], problems=Problems(), classes=None)
    seen: dict[str, str] = {}
    for path in files:
        split = split_of_file(path)
        parsed.file_splits.append((path, split))
        videos = read_json(path, parsed.problems)
        if not isinstance(videos, dict):
            raise UserError(
                f"{path}: ActivityNet Captions looks like {_LAYOUT}; this is a {type(videos).__name__}."
            )
        for video_id, video in videos.items():
            where = f"{path.name}: {video_id}"
            if not isinstance(video, dict) or not all(
                isinstance(video.get(key), list) for key in ("timestamps", "sentences")
            ):
                raise UserError(
                    f'{path}: ActivityNet Captions looks like {_LAYOUT}; the entry "{video_id}" does not.'
                )
            parsed.num_videos += 1
            parsed.num_segments += len(video["timestamps"])
            if video_id in seen:
                parsed.problems.add("duplicate id", where, f"also in {seen[video_id]}; the first is used")
                continue
            seen[video_id] = path.name
            record = _record(video_id, video, split, where, parsed.problems)
            if record is not None:
                parsed.records.append(record)
    return parsed


def _record(video_id: str, video: dict, split: str, where: str, problems: Problems) -> VideoRecord | None:
    timestamps, sentences = video["timestamps"], video["sentences"]
    if len(timestamps) != len(sentences):
        problems.add(
            "numbers of timestamps and sentences differ",
            where,
            f"{len(timestamps)} timestamps, {len(sentences)} sentences; those without a partner are skipped",
        )
    attributes = video.get("attributes")
    if attributes is None:
        attributes = [None] * len(sentences)
    elif not isinstance(attributes, list) or len(attributes) != len(sentences):
        problems.add("numbers of attributes and sentences differ", where, "the attributes are not used")
        attributes = [None] * len(sentences)
    maker = RecordMaker(video_id, video.get("duration"), split, where, problems, text_name="sentence")
    for segment, sentence, attribute in zip(timestamps, sentences, attributes, strict=False):
        maker.add(segment, sentence, attribute)
    return maker.finish()
