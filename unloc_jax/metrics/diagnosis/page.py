"""Renders a diagnosis as one HTML file that needs no other file and no network."""

import html
import importlib.resources
import re
from collections.abc import Iterable

from unloc_jax.metrics.diagnosis import svg
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS, LEAST_VIDEOS
from unloc_jax.metrics.diagnosis.section import (
    Bar,
    Bars,
    Diagnosis,
    Figure,
    Lines,
    Section,
    StackedBars,
    Table,
    Timeline,
    Timelines,
    Value,
    has_content,
)
from unloc_jax.metrics.diagnosis.text import shown

NOTHING = (
    f"Nothing that chance does not explain, or too little data to tell: less than {LEAST_ITEMS} segments or queries, or"
    f" {LEAST_VIDEOS} videos, on either side of a comparison. The tables have all the numbers."
)
_SHORT = 24  # most characters of a cell that stay on one line


def to_page(diagnosis: Diagnosis) -> str:
    """Returns the page: the summary, all readings with links to their sections, then the sections."""
    template = importlib.resources.files("unloc_jax").joinpath("assets/diagnosis.html").read_text("utf-8")
    readings = [
        f'<li>{html.escape(reading)} <a href="#{section.name}">{html.escape(section.title)}</a></li>'
        for section in diagnosis.sections
        for reading in section.readings[:1]
    ]
    values = {
        "title": html.escape(diagnosis.title),
        "summary": "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(shown(value))}</dd></div>"
            for name, value in diagnosis.summary.items()
        ),
        "terms": html.escape(diagnosis.terms),
        "readings": "".join(readings) or f"<li>{NOTHING}</li>",
        "contents": "".join(
            f'<li><a href="#{section.name}">{html.escape(section.title)}</a></li>'
            for section in diagnosis.sections
        ),
        "sections": "\n".join(map(_section, diagnosis.sections)),
    }
    # One pass over the template, so that inserted values are never substituted again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _section(section: Section) -> str:
    figures = list(filter(has_content, section.figures))
    tables = "".join(map(_table, filter(has_content, section.tables)))
    plots = "".join(_figure(figure) for figure in figures if not isinstance(figure, Timelines))
    timelines = "".join(_timelines(figure) for figure in figures if isinstance(figure, Timelines))
    both = f'<div class="pair"><div class="plots">{plots}</div><div class="tables">{tables}</div></div>'
    readings = "".join(f"<p>{html.escape(reading)}</p>" for reading in section.readings)
    return (
        f'<section id="{section.name}"><h2>{html.escape(section.title)}</h2>'
        f'<p class="note">{html.escape(section.note)}</p>'
        + (both if tables or plots else "")
        + (f'<div class="readings">{readings}</div>' if readings else "")
        + f"{timelines}</section>"
    )


def _table(table: Table) -> str:
    numeric = [
        bool(table.rows) and all(not isinstance(row[i], str) for row in table.rows)
        for i in range(len(table.columns))
    ]

    def cell(tag: str, value: Value, number: bool) -> str:
        text = shown(value)
        kind = " class=number" if number else " class=short" if len(text) <= _SHORT else ""
        return f"<{tag}{kind}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", name, number) for name, number in zip(table.columns, numeric))
    body = "".join(
        f"<tr>{''.join(cell('td', value, number) for value, number in zip(row, numeric))}</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(figure: Figure) -> str:
    if isinstance(figure, Bars):
        plot, legend = svg.bars(figure), ""
    elif isinstance(figure, StackedBars):
        plot = svg.stacked_bars(figure)
        drawn = [name for name, *shares in zip(figure.parts, *figure.shares) if any(shares)]
        legend = _legend((name, svg.kind_class(name)) for name in drawn)
    else:
        assert isinstance(figure, Lines)
        plot = svg.lines(figure)
        legend = _legend((name, f"curve-{i}") for i, name in enumerate(figure.curves))
    return f"<figure><figcaption>{html.escape(figure.title)}</figcaption>{plot}{legend}</figure>"


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<li><i class="{kind}"></i>{html.escape(name)}</li>' for name, kind in entries)
    return f'<ul class="legend">{items}</ul>'


def _timelines(figure: Timelines) -> str:
    kinds = dict.fromkeys(
        bar.kind for video in figure.videos for lane in video.lanes for bar in (*lane.truth, *lane.found)
    )
    names = {"truth": "ground truth", "missed": "missed ground truth", "later": "later window"}
    legend = _legend((names.get(kind, kind), svg.kind_class(kind)) for kind in kinds)
    videos = "".join(_timeline(video) for video in figure.videos)
    return (
        f"<details open><summary>{html.escape(figure.title)}</summary>{legend}"
        f'<div class="videos">{videos}</div></details>'
    )


def _timeline(video: Timeline) -> str:
    lanes = []
    for lane in video.lanes:
        bars = "".join(_bar(bar, video.duration_s, "above") for bar in lane.truth)
        bars += "".join(_bar(bar, video.duration_s, "below") for bar in reversed(lane.found))  # best on top
        lanes.append(
            f'<p class="lane-name" dir="auto">{html.escape(lane.name)}</p><div class="lane">{bars}</div>'
        )
    return (
        f'<article><h3>{html.escape(video.name)}</h3><p class="note">{html.escape(video.summary)}</p>'
        f'{"".join(lanes)}<p class="axis"><span>0 s</span><span>{video.duration_s:.1f} s</span></p></article>'
    )


def _bar(bar: Bar, duration_s: float, row: str) -> str:
    start, end = (min(max(time_s / duration_s, 0.0), 1.0) for time_s in (bar.start_s, bar.end_s))
    note = f"{bar.start_s:.1f}–{bar.end_s:.1f} s, {bar.note}"
    return (
        f'<i class="{row} {svg.kind_class(bar.kind)}" style="left:{100 * start:.2f}%;width:{100 * (end - start):.2f}%"'
        f' title="{html.escape(note)}"></i>'
    )
