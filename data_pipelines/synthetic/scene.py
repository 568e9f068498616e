"""Draws the content of a synthetic video: which object does what, when and where, without pixels."""

import dataclasses

import numpy as np

from data_pipelines.synthetic import language
from data_pipelines.synthetic.paths import Path, draw_paths

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink")

DURATION_RANGE_S = (10.0, 20.0)
TRIMMED_RANGE_S = (2.0, 6.0)
SHORTEST_EVENT_S = 0.5
LONGEST_EVENT = 0.7  # of the video's duration
MAX_VISIBLE = 2  # objects on screen at the same instant

# (color, shape, motion), the content of a sentence.
Action = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Event:
    """One object performing one motion, on screen for exactly `start_cs` ≤ time < `end_cs`.

    Times are whole hundredths of a second, the resolution of the annotation files, so that
    "is this frame inside the event" has an exact answer.

    Attributes:
      color, shape, motion: one of COLORS, SHAPES, MOTIONS.
      start_cs, end_cs: hundredths of a second.
      path: positions of the object, on exactly the frames with time in [start, end).
      sentence: the caption; None for a distractor, which has no caption.
    """

    color: str
    shape: str
    motion: str
    start_cs: int
    end_cs: int
    path: Path
    sentence: str | None


@dataclasses.dataclass(frozen=True)
class Scene:
    """A whole video: `num_frames` frames and its events, ordered by start time.

    `duration_s` is num_frames / fps, cut to the two decimals of the annotation files.
    """

    num_frames: int
    duration_s: float
    events: tuple[Event, ...]


def make_scene(rng: np.random.Generator, fps: int) -> Scene:
    """Draws a video: 4 or 5 events with captions and a distractor.

    Every (color, shape, motion) occurs at most once, so each caption has exactly one correct segment. The first
    captioned event has one rival that differs only in the motion and one that differs only in the object; the other
    events have other objects. Half of the distractors share the object or the motion with a captioned event. More
    events would leave no room for long ones.
    """
    num_frames = round(rng.uniform(*DURATION_RANGE_S) * fps)
    duration_cs = 100 * num_frames // fps
    num_queries = int(rng.integers(4, 6))

    # In random order, because the spans are ordered by length.
    queries = _query_actions(rng, num_queries)
    actions: list[Action] = [queries[int(i)] for i in rng.permutation(num_queries)]
    actions.append(_distractor_action(rng, actions, queries))
    spans = _spans_cs(rng, duration_cs, num_queries)

    # Later events are drawn over earlier ones, so a short event is seldom hidden by a long one.
    order = sorted(range(len(spans)), key=lambda i: spans[i])
    paths = draw_paths(rng, [actions[i][2] for i in order], [_visible_frames(*spans[i], fps) for i in order])
    events = tuple(
        Event(*actions[i], *spans[i], path, language.sentence(*actions[i], rng) if i < num_queries else None)
        for i, path in zip(order, paths)
    )
    return Scene(num_frames, duration_cs / 100, events)


def make_trimmed_scene(rng: np.random.Generator, fps: int) -> Scene:
    """Draws a clip that one event with a caption fills from the first frame to the last."""
    num_frames = round(rng.uniform(*TRIMMED_RANGE_S) * fps)
    duration_cs = 100 * num_frames // fps
    action = _any_action(rng)
    (path,) = draw_paths(rng, [action[2]], [range(num_frames)])
    event = Event(*action, 0, duration_cs, path, language.sentence(*action, rng))
    return Scene(num_frames, duration_cs / 100, (event,))


def _visible_frames(start_cs: int, end_cs: int, fps: int) -> range:
    """Returns the frames k with time k/fps in [start, end)."""
    return range(-(-start_cs * fps // 100), -(-end_cs * fps // 100))


def _query_actions(rng: np.random.Generator, count: int) -> list[Action]:
    color, shape = _pick(rng, COLORS), _pick(rng, SHAPES)
    motion = _pick(rng, MOTIONS)
    other_color, other_shape = _similar_object(rng, color, shape)
    other_motion = _other(rng, MOTIONS, motion)
    actions = [(color, shape, motion), (color, shape, other_motion), (other_color, other_shape, motion)]
    while len(actions) < count:
        action = _any_action(rng)
        if action[:2] not in [taken[:2] for taken in actions]:
            actions.append(action)
    return actions


def _distractor_action(rng: np.random.Generator, taken: list[Action], queries: list[Action]) -> Action:
    rival = rng.random() < 0.5
    while True:
        action = _rival(rng, taken, queries) if rival else _any_action(rng)
        if action not in taken:
            return action


def _any_action(rng: np.random.Generator) -> Action:
    return _pick(rng, COLORS), _pick(rng, SHAPES), _pick(rng, MOTIONS)


def _rival(rng: np.random.Generator, taken: list[Action], queries: list[Action]) -> Action:
    """Draws a new action that shares the object or the motion with one of the queries."""
    while True:
        color, shape, motion = queries[rng.integers(len(queries))]
        if rng.random() < 0.5:
            action = (color, shape, _other(rng, MOTIONS, motion))
        else:
            action = (*_similar_object(rng, color, shape), motion)
        if action not in taken:
            return action


def _similar_object(rng: np.random.Generator, color: str, shape: str) -> tuple[str, str]:
    """Draws another object: only the color, only the shape, or both differ, each a third of the time."""
    differs = rng.integers(3)
    return (
        color if differs == 1 else _other(rng, COLORS, color),
        shape if differs == 0 else _other(rng, SHAPES, shape),
    )


def _spans_cs(rng: np.random.Generator, duration_cs: int, num_queries: int) -> list[tuple[int, int]]:
    """Draws start and end of every event in hundredths of a second, queries first, then the distractor."""
    shortest = 100 * SHORTEST_EVENT_S
    while True:
        draws = rng.random(num_queries + 1)
        lengths = [round(n) for n in shortest * (LONGEST_EVENT * duration_cs / shortest) ** draws]
        # The longest find room first; otherwise videos with several long events would seldom succeed.
        lengths[:num_queries] = sorted(lengths[:num_queries], reverse=True)
        # Many attempts per set of lengths: redrawing the lengths after one failure would make long
        # events rare.
        for _ in range(50):
            spans = _place(rng, duration_cs, lengths, num_queries)
            if spans is not None:
                return spans


def _place(
    rng: np.random.Generator, duration_cs: int, lengths: list[int], num_queries: int
) -> list[tuple[int, int]] | None:
    """Tries once to place every event; returns None if more than MAX_VISIBLE would be visible at once."""
    spans: list[tuple[int, int]] = []
    for i, length in enumerate(lengths):
        low, high = 0, duration_cs - length
        if i >= num_queries:
            # A distractor overlaps a query by at least half of the shorter of the two.
            start, end = spans[rng.integers(num_queries)]
            overlap = min(length, end - start) // 2
            low, high = max(low, start + overlap - length), min(high, end - overlap)
        for _ in range(20):
            begin = int(rng.integers(low, high + 1))
            span = (begin, begin + length)
            if _most_visible([*spans, span]) <= MAX_VISIBLE:
                spans.append(span)
                break
        else:
            return None
    return spans


def _most_visible(spans: list[tuple[int, int]]) -> int:
    return max(sum(start <= instant < end for start, end in spans) for instant, _ in spans)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _other(rng: np.random.Generator, options: tuple[str, ...], than: str) -> str:
    return _pick(rng, tuple(option for option in options if option != than))
