"""Parser of MAD (MAD_train.json, MAD_val.json, MAD_test.json): audio descriptions of films.

{id of the sentence: {"movie", "movie_duration", "sentence", "timestamps": [s, s], "ext_timestamps": [s, s], …}}.
The official baselines train and evaluate on "ext_timestamps", which extend short ones; "timestamps" are read without.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import query_attributes
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'MAD looks like {"<id>": {"movie": "10142", "movie_duration": 5409.0, "sentence": "…", '
    '"ext_timestamps": [11.5, 13.0]}, …}'
)


def parse_mad(files: list[Path]) -> ParsedAnnotations:
    """Reads MAD files; the texts are per-film queries with the attribute "qid", the sentence's id.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    for path in files:
        content = read_json(path, collector.problems, _LAYOUT)
        if not isinstance(content, dict) or not content:
            raise UserError(f"{path}: {_LAYOUT}; this file does not.")
        for qid, entry in content.items():
            if not isinstance(entry, dict) or not as_text(entry.get("movie")):
                raise UserError(f'{path}: {_LAYOUT}; the entry "{qid}" does not.')
        split = collector.split_of(path)
        for movie, sentences in by_video(
            (entry["movie"], (qid, entry)) for qid, entry in content.items()
        ).items():
            if not collector.is_new(path, movie, split, len(sentences)):
                continue
            duration = sentences[0][1].get("movie_duration")
            maker = collector.maker(path, movie, split, duration, text_name="sentence")
            for number, (qid, entry) in enumerate(sentences):
                where = f"{path.name}: {qid}"
                maker.add(
                    entry.get("ext_timestamps", entry.get("timestamps")),
                    entry.get("sentence"),
                    query_attributes(qid, number),
                    where,
                )
            collector.keep(maker.finish())
    return collector.parsed
