"""Parser of Charades-STA: text files with a line "video_id start end##sentence" per query (seconds).

The files do not contain their split; it is taken from the file name (charades_sta_train.txt, charades_sta_test.txt).
Nor do they contain durations, which are in the column "length" of Charades' own tables (Charades_v1_train.csv,
Charades_v1_test.csv); give these as further files. MMN's copy, JSON in the layout of ActivityNet Captions, is also
supported.
"""

from pathlib import Path

from data_pipelines.annotations.captions import add_captions, captions_of
from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems, shown
from data_pipelines.annotations.table_file import read_table
from data_pipelines.annotations.text_file import read_lines
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

_LAYOUT = 'Charades-STA looks like lines "3MSZA 24.3 30.4##person turn a light on."'
_LENGTHS_LAYOUT = 'the lengths of Charades are in a CSV with the columns "id" and "length"'


def parse_charades_sta(files: list[Path]) -> ParsedAnnotations:
    """Reads Charades-STA files and Charades tables; the texts are per-video queries.

    Many segments end a little after their video: they are clipped and reported.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    lengths: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".csv":
            lengths |= _read_lengths(path, collector.problems)
    annotation_files = [path for path in files if path.suffix.lower() != ".csv"]
    if not annotation_files:
        raise UserError(
            f"{files[0]}: this file only tells lengths; give charades_sta_*.txt as well. {_LAYOUT}."
        )
    for path in annotation_files:
        if path.suffix.lower() == ".json":
            content = read_json(path, collector.problems, _LAYOUT)
            add_captions(collector, path, captions_of(path, content, _LAYOUT))
        else:
            _add_lines(collector, path, lengths)
    return collector.parsed


def _read_lengths(path: Path, problems: Problems) -> dict[str, str]:
    """Returns the length in seconds, as in the file, by video id."""
    return {
        normal_id(row["id"]): row["length"]
        for _, row in read_table(path, ("id", "length"), problems, _LENGTHS_LAYOUT)
    }


def _add_lines(collector: VideoCollector, path: Path, lengths: dict[str, str]) -> None:
    split = collector.split_of(path)
    rows: list[tuple[str | int, tuple[str, list[str], str]]] = []
    for number, line in read_lines(path):
        where = f"{path.name}:{number}"
        times, separator, sentence = line.partition("##")
        words = times.split()
        if not separator or len(words) != 3:
            collector.problems.add("not an annotation line", where, shown(line))
            continue
        rows.append((words[0], (where, words[1:], sentence)))
    if not rows:
        raise UserError(f"{path}: {_LAYOUT}; no line of this file does.")
    for video_id, lines in by_video(rows).items():
        if not collector.is_new(path, video_id, split, len(lines)):
            continue
        length = lengths.get(normal_id(video_id))
        # The official evaluation counts each duplicate.
        maker = collector.maker(path, video_id, split, length, text_name="sentence", keep_duplicates=True)
        for where, segment, sentence in lines:
            maker.add(segment, sentence, where=where)
        collector.keep(maker.finish())
