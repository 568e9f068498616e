"""BuildReport: counts what a build stored, and lists what was wrong or left out."""

import collections
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from data_pipelines.annotations.problems import Problems
from data_pipelines.builders.examples import UNKNOWN_DURATION, Findings
from data_pipelines.builders.fit_to_duration import lengths_differ
from data_pipelines.builders.frames import UnusableVideo
from unloc_jax.errors import UserError


@dataclasses.dataclass
class SplitCounts:
    """Contents of one split of the built dataset; `bytes` are those of the JPEG frames and the sound.

    `unusable` counts the videos that were left out by reason, `segments_left_out` their annotated segments.
    """

    videos: int = 0
    segments: int = 0
    texts: set[str] = dataclasses.field(default_factory=set)
    frames: int = 0
    bytes: int = 0
    with_sound: int = 0
    unusable: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    segments_left_out: int = 0


class BuildReport:
    """Collects findings; unusable videos go to a JSON Lines file, with reasons.

    Attributes:
      file: that file.
      problems: findings about videos, by kind.
      counts: by split.
    """

    def __init__(self, file: Path):
        self.file = file
        self.problems = Problems()
        self.counts: dict[str, SplitCounts] = collections.defaultdict(SplitCounts)
        self._rows: dict[str, list[tuple[str, int, float]]] = collections.defaultdict(list)

    def begin_file(self) -> None:
        """Empties the file."""
        self.file.write_text("")

    def add(self, findings: Findings) -> None:
        counts = self.counts[findings.split]
        for problem in findings.problems:
            self.problems.add(problem.kind, problem.where, problem.detail)
        unusable = findings.unusable
        if unusable is not None:
            counts.unusable[unusable.kind] += 1
            counts.segments_left_out += findings.segments
            where = f"{findings.split}: {findings.video_id}"
            self.problems.add(f"video skipped: {unusable.kind}", where, unusable.reason)
            self.list_unusable(findings.video_id, findings.split, unusable)
            return
        counts.videos += 1
        counts.segments += findings.segments
        counts.texts.update(findings.texts)
        counts.frames += findings.frames
        counts.bytes += findings.bytes
        counts.with_sound += findings.with_sound
        for name, (rows, length_s) in findings.rows.items():
            self._rows[name].append((f"{findings.split}: {findings.video_id}", rows, length_s))

    def check_rates(self) -> None:
        """Reports videos whose features have another number of rows per second than most.

        Rows without times are spread over the length of their video. If that differs from the length of the video that
        they were computed from, they get wrong times. Features with the same number of rows for all videos were spread
        on purpose.
        """
        for name, videos in self._rows.items():
            if len({rows for _, rows, _ in videos}) == 1:
                continue
            usual = statistics.median_low(rows / length_s for _, rows, length_s in videos)
            for where, rows, length_s in videos:
                if lengths_differ(rows / usual, length_s):
                    detail = f"{rows} rows for {length_s:.2f} s; most videos have {usual:.3g} per second"
                    self.problems.add(f"{name} features: rows per second differ", where, detail)

    def list_unusable(self, video_id: str, split: str, unusable: UnusableVideo) -> None:
        """Writes a line to the file without counting it."""
        line = {"video_id": video_id, "split": split, "kind": unusable.kind, "reason": unusable.reason}
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def check_split(self, split: str) -> None:
        """Raises UserError if all videos of a split are unusable."""
        counts = self.counts[split]
        if counts.videos:
            return
        if set(counts.unusable) == {UNKNOWN_DURATION}:
            raise UserError(
                f"None of the {counts.unusable.total()} videos of the split {split!r} has a known length. Give it in "
                "the annotations (CSV and JSON Lines: `duration`, in seconds), or features with `duration_s`, as "
                "`unloc features` writes them, or --videos, to measure it."
            )
        why = ", ".join(f"{kind} ({count})" for kind, count in counts.unusable.most_common())
        raise UserError(
            f"None of the {counts.unusable.total()} videos of the split {split!r} can be used: {why}. "
            f"See {self.file}; are these the right folders for these annotations?"
        )

    def left_out(self) -> dict[str, dict[str, int]]:
        """Returns the numbers of videos that were left out, and of their segments, by split, as in build.json."""
        return {
            split: {"videos": counts.unusable.total(), "segments": counts.segments_left_out}
            for split, counts in self.counts.items()
            if counts.unusable
        }

    def with_sound(self) -> dict[str, int]:
        """Returns how many stored videos have sound, by split."""
        return {split: counts.with_sound for split, counts in self.counts.items() if counts.videos}

    def splits(self) -> dict[str, dict[str, Any]]:
        """Returns the counts in the form of build.json."""
        return {
            split: {
                "videos": counts.videos,
                "segments": counts.segments,
                "texts": len(counts.texts),
                "frames": counts.frames,
                "megabytes": counts.bytes / 1e6,
            }
            for split, counts in self.counts.items()
            if counts.videos
        }
