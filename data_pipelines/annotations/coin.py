"""Parser of COIN: {"database": {id: {"duration": s, "subset": "training", "class": "<task>", "annotation": [{"id":
"212", "segment": [s, s], "label": "<step>"}]}}}.

COIN has 778 steps, distinguished by their ids: 54 of them share the 25 labels that occur in several tasks. A class is
identified by its text here, so a shared label is followed by its task: "cut in half (make orange juice)". The taxonomy,
a list of {"action_id", "label", "task"}, may be given as a further file; without it only labels that are shared within
the given files are known to be shared.
"""

import collections
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.database import add_database, segment_of, videos_of
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import split_of_subset
from unloc_jax.errors import UserError
from unloc_jax.names import as_text, normal_text

_LAYOUT = (
    'COIN looks like {"database": {"<id>": {"duration": 131.03, "subset": "training", "class": '
    '"ReplaceCDDriveWithSSD", "annotation": [{"id": "212", "segment": [60.0, 69.0], "label": "take out the '
    'laptop CD drive"}]}}}, its taxonomy like [{"action_id": 212, "label": "…", "task": '
    '"ReplaceCDDriveWithSSD"}, …]'
)
# Matches where a word of a task's name begins: "ReplaceCDDriveWithSSD" → Replace CD Drive With SSD.
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# (id, label, task)
_Step = tuple[str, str, str]


def parse_coin(files: list[Path]) -> ParsedAnnotations:
    """Reads COIN files; the texts are the names of steps, made unique as described above.

    With the taxonomy, `classes` are all of its steps, including those that do not occur in the files.

    Raises:
      UserError: a file is missing, is not JSON, or has another layout.
    """
    collector = VideoCollector()
    taxonomy: list[_Step] = []
    databases = []
    for path in files:
        content = read_json(path, collector.problems, _LAYOUT)
        if _is_taxonomy(content):
            taxonomy += [
                (as_text(step["action_id"]), as_text(step.get("label")), as_text(step.get("task")))
                for step in content
            ]
        else:
            databases.append((path, list(videos_of(path, content, _LAYOUT))))
    if not databases:
        raise UserError(
            f"{files[0]}: this is the taxonomy; give the file with the segments as well. {_LAYOUT}."
        )
    in_files = [
        _step(annotation, video)
        for _, videos in databases
        for _, video, annotations in videos
        for annotation in annotations
        if as_text(annotation.get("label"))
    ]
    names = _names(taxonomy or in_files)
    for path, videos in databases:
        add_database(
            collector,
            path,
            videos,
            text_name="label",
            split_of=lambda _, video: split_of_subset(video.get("subset")),
            add=lambda maker, annotation, video: maker.add(
                segment_of(annotation),
                names.get(_step(annotation, video)[:2], annotation.get("label")),
            ),
        )
    parsed = collector.with_classes()
    if taxonomy:
        parsed.classes = sorted({*(parsed.classes or ()), *names.values()})
    return parsed


def _is_taxonomy(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(item, dict) and "action_id" in item for item in content)
    )


def _step(annotation: dict[str, Any], video: dict[str, Any]) -> _Step:
    return as_text(annotation.get("id")), as_text(annotation.get("label")), as_text(video.get("class"))


def _names(steps: Iterable[_Step]) -> dict[tuple[str, str], str]:
    """Returns the text of a step by (id, label): its label, followed by its task if other steps share the label."""
    of_label: dict[str, dict[str, str]] = collections.defaultdict(dict)  # label → id → task
    for step_id, label, task in steps:
        of_label[label].setdefault(step_id, task)
    names = {}
    for label, tasks in of_label.items():
        text = normal_text(label)
        times: collections.Counter[str] = collections.Counter()
        for step_id in sorted(tasks, key=lambda step_id: (len(step_id), step_id)):
            task = tasks[step_id]
            times[task] += 1
            behind = [_WORD_START.sub(" ", task).lower()] if task else []
            # Two steps of one task with the same label are numbered, as are those without a task.
            behind += [str(times[task])] if times[task] > 1 else []
            shared = len(tasks) > 1 and behind and text
            names[step_id, label] = f"{text} ({', '.join(behind)})" if shared else text
    return names
