"""Splits whose annotations a server keeps secret, such as ActivityNet's "testing"."""

from collections.abc import Callable

from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import SPLITS
from unloc_jax.queries import absent, not_shown
from unloc_jax.records import VideoRecord


def is_hidden(records: list[VideoRecord]) -> bool:
    """Returns whether no video of a split has a text; a split of queries has some, even if its answers are secret."""
    return bool(records) and not any(
        record.texts or not_shown(record) or absent(record) for record in records
    )


def leave_out_absent(parsed: ParsedAnnotations, is_there: Callable[[str], bool]) -> None:
    """Leaves out, and reports as one problem, each hidden split of which no video is there.

    Most people never download such videos, which only a submission to a server needs.

    Args:
      parsed: annotations; loses the records of these splits.
      is_there: tells whether a video, given by its id, can be read.
    """
    for split in SPLITS:
        records = [record for record in parsed.records if record.split == split]
        if is_hidden(records) and not any(is_there(record.video_id) for record in records):
            parsed.records = [record for record in parsed.records if record.split != split]
            detail = f"none of its {len(records)} videos is there: it is not built"
            parsed.problems.add("split without annotations and videos", split, detail)
