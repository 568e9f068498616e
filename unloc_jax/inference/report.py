"""The report: one HTML file with the video, the relevance of every text over time and the predicted segments.

The page needs no other file and no network. Python writes every row, so that it can be read, searched and
printed without JavaScript; the template's script only adds interaction.
"""

import base64
import hashlib
import html
import importlib.resources
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from unloc_jax.inference.predictions import TOP_K, Segment, TextPrediction, VideoPrediction, clock, to_json
from unloc_jax.inference.preview import MAX_PREVIEW_BYTES, preview_bytes
from unloc_jax.inference.waveform import Waveform, drawing
from unloc_jax.whole_writes import write_result

# Up to this many texts, all segments are shown at first; beyond it, only the best of each.
_TEXTS_WITH_ALL_SEGMENTS = 10
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS = 12
_CURVE_TOPS = (0.1, 0.25, 0.5, 1.0)
# Fraction of the time axis that a segment's score and times need beside its bar.
_NOTE_FRACTION = 0.22
_BASE64_CHUNK = 3 * 2**18  # bytes; a multiple of 3, so that chunks can be joined


def write_report(
    prediction: VideoPrediction, video_path: str | Path, out_path: str | Path, top_k: int = TOP_K
) -> None:
    """Writes the report page.

    Args:
      prediction: the values to show.
      video_path: the video to embed, see `preview.preview_bytes`.
      out_path: the HTML file to write.
      top_k: most segments per text on the page; its JSON data holds all of them.

    Raises:
      UserError: the video cannot be used or the page cannot be written.
    """
    write_result(out_path, embedded_page(prediction, video_path, top_k))


def embedded_page(
    prediction: VideoPrediction,
    video_path: str | Path,
    top_k: int = TOP_K,
    max_video_bytes: int = MAX_PREVIEW_BYTES,
) -> Iterator[str]:
    """Returns the parts of the page that `write_report` writes.

    Args:
      prediction, video_path, top_k: see `write_report`.
      max_video_bytes: of the embedded video; a larger one is reduced.

    Raises:
      UserError: the video cannot be used.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    heard = prediction.waveform
    video, mime = preview_bytes(
        video_path,
        max_video_bytes,
        with_sound=heard is not None,
        audio_track=None if heard is None else heard.audio_track,
    )
    source = itertools.chain([f"data:{mime};base64,"], _base64(video))
    return _page(prediction, source, mime, "data: blob:", top_k)


def report_page(prediction: VideoPrediction, video_url: str, top_k: int, mime: str = "video/mp4") -> str:
    """Returns the report page for a server that serves the video, too.

    In a frame, a fragment such as "#most=3&least=0.5" takes the place of the page's own filters (most segments per
    text, lowest score), and the page around it changes them by `postMessage({most, least})`.

    Args:
      prediction: the values to show.
      video_url: a video that browsers play, on the page's own server; relative to the page.
      top_k: most segments per text on the page.
      mime: MIME type of the video.
    """
    return "".join(_page(prediction, [html.escape(video_url)], mime, "'self'", top_k))


def _page(
    prediction: VideoPrediction, video_source: Iterable[str], mime: str, media: str, top_k: int
) -> Iterator[str]:
    """Yields the parts of the page; `media`: sources of media that its Content-Security-Policy allows."""
    template = importlib.resources.files("unloc_jax").joinpath("assets/report.html").read_text("utf-8")
    values = _values(prediction, _script_hash(template), top_k) | {"media": media}
    values["player"], values["kind"] = ("audio", "sound") if mime.startswith("audio/") else ("video", "video")
    # One pass over the template, so that inserted values are never substituted again.
    for i, part in enumerate(re.split(r"\{\{(\w+)\}\}", template)):
        if i % 2 == 0:
            yield part
        elif part == "video":
            yield from video_source
        else:
            yield values[part]


def _values(prediction: VideoPrediction, script_hash: str, top_k: int) -> dict[str, str]:
    """Returns the values of the template's {{names}}: HTML, except `data`, which is JSON."""
    name = Path(prediction.video).name
    data = to_json(prediction)
    data["video"] = name  # the page may be passed on: it must not reveal its author's folders
    finite = [text.relevance[np.isfinite(text.relevance)] for text in prediction.texts]
    highest = max((values.max() for values in finite if values.size), default=1.0)
    curve_top = next((top for top in _CURVE_TOPS if highest <= top), 1.0)
    scores = [segment.score for text in prediction.texts for segment in text.segments[:top_k]]
    most = max((len(text.segments[:top_k]) for text in prediction.texts), default=0)
    tick_s = _tick_step_s(prediction.duration_s)
    count = len(prediction.texts)
    return {
        "script_hash": script_hash,
        "title": html.escape(name),
        "summary": f"{clock(prediction.duration_s)} · {count} text{'s' if count != 1 else ''}",
        "details": "\n".join(_details(prediction.model | dict(prediction.notes))),
        "duration_s": f"{prediction.duration_s:.3f}",
        "duration": clock(prediction.duration_s),
        "tick_fraction": f"{tick_s / prediction.duration_s:.6f}",
        "ticks": "\n".join(_ticks(prediction.duration_s, tick_s)),
        "sound": "" if prediction.waveform is None else _sound(prediction.waveform),
        "copy": "a smaller copy of the original" + (", without sound" if prediction.waveform is None else ""),
        "curve_top": f"{curve_top:g}",
        "best_checked": "checked" if count > _TEXTS_WITH_ALL_SEGMENTS else "",
        "all_checked": "" if count > _TEXTS_WITH_ALL_SEGMENTS else "checked",
        "most_segments": str(most),
        "filters_hidden": "" if most else " hidden",
        "which_hidden": "" if most > 1 else " hidden",
        "highest_score": f"{math.ceil(max(scores, default=1.0) * 100) / 100:g}",
        "rows": "\n".join(
            _row(i, text, prediction.duration_s, curve_top, top_k) for i, text in enumerate(prediction.texts)
        ),
        "legend": "\n".join(_legend(prediction.stretched, curve_top, prediction.waveform is not None)),
        "data": json.dumps(data, allow_nan=False).translate(_JSON_IN_HTML),
    }


# Inside <script> text is not escaped; only "</script" and "<!--" end or confuse it.
_JSON_IN_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def _script_hash(template: str) -> str:
    """Returns the sha256 source of Content-Security-Policy that allows this one script and no other."""
    script = template.partition("<script>")[2].partition("</script>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _base64(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _BASE64_CHUNK):
        yield base64.b64encode(data[start : start + _BASE64_CHUNK]).decode()


def _details(model: dict[str, str]) -> Iterator[str]:
    for key, value in model.items():
        name = html.escape(str(key).replace("_", " "))
        shown = html.escape(str(value)).replace("/", "/<wbr>")  # paths break at their slashes
        yield f"<div><dt>{name}</dt><dd>{shown}</dd></div>"


def _sound(waveform: Waveform) -> str:
    """Renders the waveform on the common time axis."""
    return f"""
    <p class="hears">sound</p>
    <div class="sound">{drawing(waveform)}</div>"""


def _legend(stretched: bool, curve_top: float, hears: bool) -> Iterator[str]:
    """Explains curves, bars and marks, for a trained model or for CLIP alone (`VideoPrediction.stretched`)."""
    pointer = "The number beside a text is the curve’s value at the playhead or under the pointer."
    if stretched:
        sections = {
            "Relevance": "The grey curve: how similar each moment is to the text, compared with the other moments of "
            "this video. It is stretched to go from 0 at the least similar moment to 1 at the most similar one, also "
            f"for a text that never happens; it is not a probability. {pointer}",
            "Segments": "The bars: stretches that stand out from what is around them, best first from top to bottom. "
            "The score, from 0 to 1, is by how much. It ranks the segments of one text in this video; it does not say "
            "whether the text happens at all, and compares neither texts nor videos.",
        }
    else:
        sections = {
            "Relevance": "The grey curve: how well each moment matches the text in the model’s eyes, from 0 (bottom) "
            f"to {curve_top:g} (top). {pointer}",
            "Segments": "The bars: where the text happens, best first from top to bottom. The score, from 0 to 1, says "
            "how sure the model is of a whole segment, its start and end included. It ranks the segments of one text; "
            "it is not a probability, and between texts it compares only roughly.",
            "Unknown words": "A <mark>marked</mark> word never occurred in the texts the model was trained on. What is "
            "found for such a text is a guess from the other words.",
        }
    if hears:
        sections["Sound"] = (
            "The strip under the time axis: the waveform of what the model heard, light up to the peaks and dark up to "
            "the mean loudness. Its height is that of the loudest moment; quiet sounds are drawn larger than they are. "
            "Where it is shaded, there is no sound."
        )
    for title, text in sections.items():
        yield f"  <section><h3>{title}</h3><p>{text}</p></section>"


def _tick_step_s(duration_s: float) -> float:
    for step_s in _TICK_STEPS_S:
        if duration_s / step_s <= _MOST_TICKS:
            return step_s
    return math.ceil(duration_s / _MOST_TICKS / 3600) * 3600


def _ticks(duration_s: float, step_s: float) -> Iterator[str]:
    for i in range(math.floor(duration_s / step_s + 1e-9) + 1):
        time_s = i * step_s
        label = clock(time_s) if step_s < 1 else clock(time_s).removesuffix(".0")
        # A centred label would stick out at the ends of the axis.
        side = "first" if i == 0 else "last" if time_s > 0.97 * duration_s else ""
        kind = " ".join(name for name in ("tick", side, "odd" if i % 2 else "") if name)
        yield f'<span class="{kind}" style="--at:{time_s / duration_s:.5f}">{label}</span>'


def _row(index: int, text: TextPrediction, duration_s: float, curve_top: float, top_k: int) -> str:
    """Renders one text: the sentence on the left, its curve and segments on the time axis on the right."""
    segments = text.segments[:top_k]
    if text.is_absent:
        found = (
            f'<p class="absent">not here<span class="score">best score {text.best_score:.2f}, the threshold is '
            f"{text.threshold:.2f}</span></p>"
        )
        band = ""
    elif segments:
        best = segments[0]
        found = (
            f'<p class="best"><span class="dot"></span>{clock(best.start_s)} – {clock(best.end_s)}'
            f'<span class="score">score {best.score:.2f}</span></p>'
        )
        band = f'<span class="band" style="{_place(best, duration_s)}"></span>'
    else:
        found, band = "", ""
    warning = ""
    if text.unknown_words:
        words = ", ".join(f"<b>{html.escape(word)}</b>" for word in text.unknown_words)
        warning = f'<p class="warning">Words the model never saw in training: {words}</p>'
    buttons = "\n".join(
        _segment(index, rank, segment, len(segments), text.text, duration_s)
        for rank, segment in enumerate(segments)
    )
    return f"""<section class="row" data-text="{index}" style="--lanes:{max(1, len(segments))}">
<div class="label">
<h2 dir="auto">{_marked(text.text, text.unknown_words)}</h2>
<span class="here" title="relevance at the time shown"></span>
{found}{warning}
</div>
<div class="track">
{band}
{_curve(text.relevance_times_s, text.relevance, duration_s, curve_top)}
<span class="scale" aria-hidden="true">{curve_top:g}</span>
<ol class="segments">
{buttons}
</ol>
<p class="nothing"{" hidden" if segments else ""}>no segment</p>
</div>
</section>"""


def _segment(index: int, rank: int, segment: Segment, count: int, text: str, duration_s: float) -> str:
    start, end = _fractions(segment, duration_s)
    if end <= 1 - _NOTE_FRACTION:
        side = "right"
    elif start >= _NOTE_FRACTION:
        side = "left"
    else:
        side = "inside"
    label = (
        f"Play segment {rank + 1} of {count} for “{text}”: "
        f"{clock(segment.start_s)} to {clock(segment.end_s)}, score {segment.score:.2f}"
    )
    return (
        f'<li><button type="button" class="segment{" first" if rank == 0 else ""}" data-rank="{rank}" '
        f'style="{_place(segment, duration_s)};--rank:{rank};--score:{segment.score:.3f}" '
        f'aria-label="{html.escape(label)}">'
        f'<span class="note {side}">{segment.score:.2f}'
        f'<span class="when">{clock(segment.start_s)} – {clock(segment.end_s)}</span></span></button></li>'
    )


def _fractions(segment: Segment, duration_s: float) -> tuple[float, float]:
    """Returns start and end as fractions of the time axis, clipped to its ends."""
    start, end = np.clip((segment.start_s / duration_s, segment.end_s / duration_s), 0, 1)
    return float(start), float(end)


def _place(segment: Segment, duration_s: float) -> str:
    start, end = _fractions(segment, duration_s)
    return f"--start:{start:.5f};--end:{end:.5f}"


def _marked(text: str, unknown_words: list[str]) -> str:
    """Returns the text as HTML with its unknown words marked."""
    if not unknown_words:
        return html.escape(text)
    words = "|".join(re.escape(word) for word in sorted(unknown_words, key=len, reverse=True))
    parts = re.split(rf"(?<!\w)({words})(?!\w)", text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{html.escape(part)}</mark>" if i % 2 else html.escape(part) for i, part in enumerate(parts)
    )


def _curve(times_s: np.ndarray, relevance: np.ndarray, duration_s: float, curve_top: float) -> str:
    """Renders relevance over time as an SVG of 1000 × 100 units that CSS stretches; NaN leaves a gap.

    Args:
      times_s: float [R], seconds.
      relevance: float [R] in [0, 1].
      duration_s: length of the time axis in seconds.
      curve_top: relevance at the top of the plot.
    """
    x = np.clip(np.asarray(times_s, float) / duration_s, 0, 1) * 1000
    y = 100 - 100 * np.clip(np.asarray(relevance, float) / curve_top, 0, 1)
    good = np.isfinite(y)
    areas, lines = [], []
    for piece in np.split(np.arange(len(y)), np.flatnonzero(np.diff(good)) + 1):
        if not piece.size or not good[piece[0]]:
            continue
        points = "L".join(f"{x[i]:.1f} {y[i]:.1f}" for i in piece)
        lines.append(f"M{points}" + ("h0" if piece.size == 1 else ""))  # h0: a lone point becomes a dot
        areas.append(f"M{x[piece[0]]:.1f} 100L{points}L{x[piece[-1]]:.1f} 100Z")
    return (
        '<svg class="curve" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="area" d="{"".join(areas)}"/><path class="line" d="{"".join(lines)}"/></svg>'
    )
