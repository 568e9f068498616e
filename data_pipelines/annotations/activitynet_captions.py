"""Parser of ActivityNet Captions: {id: {"duration": s, "timestamps": [[s, s], …], "sentences": ["…", …]}}.

The files (train.json, val_1.json, val_2.json) do not contain their split; it is taken from the file name. An optional
"attributes" list, aligned with "sentences", describes each sentence, such as {"object": "red circle"}.
"""

from pathlib import Path

from data_pipelines.annotations.captions import add_captions, captions_of
from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations

_LAYOUT = (
    'ActivityNet Captions looks like {"<id>": {"duration": 55.15, "timestamps": [[0.28, 55.15], …], '
    '"sentences": ["…", …]}, …}'
)


def parse_activitynet_captions(files: list[Path]) -> ParsedAnnotations:
    """Reads ActivityNet Captions files; the texts are per-video queries, so `classes` is None.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    for path in files:
        content = read_json(path, collector.problems, _LAYOUT)
        add_captions(collector, path, captions_of(path, content, _LAYOUT))
    return collector.parsed
