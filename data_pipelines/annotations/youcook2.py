"""Parser of YouCook2, in its two layouts.

Official (youcookii_annotations_trainval.json): {"database": {id: {"duration": s, "subset": "training", "annotations":
[{"segment": [s, s], "sentence": "…"}]}}}. As captions, for dense captioning: {id: {"duration": s, "timestamps":
[[s, s], …], "sentences": ["…", …]}}, with the split in the file name.
"""

from pathlib import Path

from data_pipelines.annotations.captions import add_captions, captions_of
from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.database import add_database, segment_of, videos_of
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import split_of_subset

_LAYOUT = (
    'YouCook2 looks like {"database": {"<id>": {"duration": 311.77, "subset": "training", "annotations": '
    '[{"segment": [41, 54], "sentence": "…"}]}}}, or like {"<id>": {"duration": 311.77, "timestamps": '
    '[[41, 54], …], "sentences": ["…", …]}}'
)


def parse_youcook2(files: list[Path]) -> ParsedAnnotations:
    """Reads YouCook2 files; the texts are per-video queries.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or (as captions) its name does not identify one
        split.
    """
    collector = VideoCollector()
    for path in files:
        content = read_json(path, collector.problems, _LAYOUT)
        if isinstance(content, dict) and "database" in content:
            add_database(
                collector,
                path,
                list(videos_of(path, content, _LAYOUT)),
                text_name="sentence",
                split_of=lambda _, video: split_of_subset(video.get("subset")),
                add=lambda maker, annotation, _: maker.add(
                    segment_of(annotation), annotation.get("sentence")
                ),
            )
        else:
            add_captions(collector, path, captions_of(path, content, _LAYOUT))
    return collector.parsed
