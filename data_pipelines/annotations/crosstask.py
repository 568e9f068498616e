"""Parser of CrossTask: the steps of its 18 primary tasks.

annotations/TASK_VIDEO.csv has rows "step,start,end" without a header: the number of the step in its task, from 1, and
seconds. tasks_primary.txt lists the tasks in blocks of lines: id, title, address, number of steps, steps separated by
commas. videos_val.csv has rows "task,video,address" of the validation videos; all others are for training. The release
has no lengths. Steps of several tasks with the same words are one class.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.text_file import read_lines
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id, normal_text

_LAYOUT = (
    'CrossTask is annotations/TASK_VIDEO.csv with rows like "2,39.9,42.1" (step, start, end), tasks_primary.txt, and '
    'videos_val.csv with rows "task,video,address"'
)
_LISTS = ("tasks_primary.txt", "videos_val.csv", "videos.csv")
_LINES_PER_TASK = 5


def parse_crosstask(files: list[Path]) -> ParsedAnnotations:
    """Reads CrossTask files; the texts are class names.

    Raises:
      UserError: a file is missing, or has another layout.
    """
    collector = VideoCollector()
    lists = {path.name: read_lines(path) for path in files if path.name in _LISTS}
    rows = {path: read_lines(path) for path in files if path.name not in _LISTS}
    for name in _LISTS[:2]:
        if name not in lists:
            raise UserError(f"{files[0]}: {_LAYOUT}; {name} is not given.")
    if not rows:
        raise UserError(f"{files[0]}: {_LAYOUT}; no annotations/TASK_VIDEO.csv is given.")
    steps = _read_steps(next(path for path in files if path.name == _LISTS[0]), lists[_LISTS[0]])
    validation = {normal_id(line.split(",")[1]) for _, line in lists[_LISTS[1]] if line.count(",") >= 2}
    found: list[tuple[str | int, tuple[Path, dict[str, str], list[tuple[int, str]]]]] = []
    for path, lines in rows.items():
        task, _, name = path.stem.partition("_")
        if task not in steps or not name:
            raise UserError(f"{path}: {_LAYOUT}; the name of this file tells no task of tasks_primary.txt.")
        found.append((name, (path, steps[task], lines)))
    for video_id, of_video in by_video(found).items():
        path = of_video[0][0]
        split = "validation" if normal_id(video_id) in validation else "train"
        if not collector.is_new(path, video_id, split, sum(len(lines) for *_, lines in of_video)):
            continue
        options = {"text_name": "label", "duration_expected": False, "keep_duplicates": True}
        maker = collector.maker(path, video_id, split, None, **options)
        for file, of_task, lines in of_video:
            for number, line in lines:
                where = f"{file.name}:{number}"
                cells = [cell.strip() for cell in line.split(",")]
                if len(cells) != 3:
                    collector.problems.add("not an annotation line", where, shown(line))
                elif cells[0] not in of_task:
                    collector.problems.add(
                        "unknown class", where, f"step {shown(cells[0])} of {len(of_task)}"
                    )
                else:
                    maker.add(cells[1:], of_task[cells[0]], where=where)
        collector.keep(maker.finish())
    parsed = collector.with_classes()
    parsed.classes = sorted(
        {*(parsed.classes or ()), *(name for of in steps.values() for name in of.values())}
    )
    return parsed


def _read_steps(path: Path, lines: list[tuple[int, str]]) -> dict[str, dict[str, str]]:
    """Returns task → number of a step, from 1 → its name."""
    if not lines or len(lines) % _LINES_PER_TASK:
        raise UserError(f"{path}: {_LAYOUT}; this file does not have {_LINES_PER_TASK} lines for each task.")
    texts = [line.strip() for _, line in lines]
    tasks = {}
    for at in range(0, len(texts), _LINES_PER_TASK):
        names = [normal_text(name) for name in texts[at + 4].split(",")]
        if texts[at + 3] != str(len(names)) or not all(names):
            raise UserError(
                f"{path}:{lines[at + 4][0]}: {_LAYOUT}; {texts[at + 3]} steps were expected here."
            )
        tasks[texts[at]] = {str(number): name for number, name in enumerate(names, 1)}
    return tasks
