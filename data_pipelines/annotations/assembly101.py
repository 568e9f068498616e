"""Parser of Assembly101's coarse actions.

coarse_labels/SEQUENCE.txt has lines "start end action", separated by tabs, with frame numbers at 30 frames per second.
coarse_splits/train_coarse_assembly.txt and the like list the files of a split in their first column; the labels of the
test split are withheld. A sequence, "assembly_…" or "disassembly_…", is a video here: the videos of its views are
SEQUENCE/VIEW.mp4 (without the first word), so that features or a chosen view need the sequence's name.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.text_file import read_lines
from unloc_jax.errors import UserError

FPS = 30.0

_LAYOUT = (
    "Assembly101 is coarse_labels/*.txt with lines of start frame, end frame and action, separated by tabs, and "
    "coarse_splits/train_coarse_assembly.txt and the like, whose first column is the name of such a file"
)


def parse_assembly101(files: list[Path]) -> ParsedAnnotations:
    """Reads coarse actions; the texts are class names.

    Raises:
      UserError: a file is missing or has another layout, or the name of a list does not identify one split.
    """
    collector = VideoCollector()
    lines = {path: read_lines(path) for path in files}
    lists = [path for path in files if "_coarse_" in path.name]
    labels = {path.stem: path for path in files if path not in lists}
    if not lists or not labels:
        what = "no file of coarse_labels" if lists else "no list of coarse_splits"
        raise UserError(f"{files[0]}: {_LAYOUT}; {what} is given.")
    unused = dict(labels)
    for path in lists:
        split = collector.split_of(path)
        names = [(number, Path(line.split("\t")[0].strip()).stem) for number, line in lines[path]]
        hidden = split == "test" and not any(name in labels for _, name in names)
        for number, name in names:
            unused.pop(name, None)
            where = f"{path.name}:{number}"
            if name not in labels and not hidden:
                collector.problems.add("video without ground truth", where, f"no file {name}.txt")
                continue
            rows = [] if hidden else lines[labels[name]]
            if not collector.is_new(path, name, split, len(rows)):
                continue
            maker = collector.maker(path, name, split, None, text_name="label", duration_expected=False)
            for row, line in rows:
                cells = line.strip("\r\n").split("\t")
                if len(cells) < 3:
                    collector.problems.add("not an annotation line", f"{name}.txt:{row}", shown(line))
                    continue
                frames = [as_number(cell.strip()) for cell in cells[:2]]
                segment = [cell if at is None else at / FPS for cell, at in zip(cells, frames)]
                maker.add(segment, cells[2], where=f"{name}.txt:{row}")
            collector.keep(maker.finish_hidden() if hidden else maker.finish())
    for path in unused.values():
        collector.problems.add("video in no split", path.name, "left out")
    return collector.with_classes()
