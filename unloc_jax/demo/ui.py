"""The demo's page and its API: Gradio's form around the report page."""

import html
import sys
import traceback
from pathlib import Path
from typing import Any

from unloc_jax.demo.limits import Limits
from unloc_jax.demo.routes import Gone, page_url
from unloc_jax.demo.service import MOST_SEGMENTS, Result, Service
from unloc_jax.errors import UserError

_UPLOADS_CHECKED_S, _UPLOADS_KEPT_S = 300, 3600

CSS = """
.unloc-report { display: block; width: 100%; height: min(94vh, 60rem); border: 0; border-radius: 0.5rem; }
.unloc-nothing { display: grid; place-items: center; min-height: 10rem; text-align: center; opacity: 0.6; }
.unloc-video video { max-height: 16rem; }
"""

# Models see a few hundred pixels; of the 1920 × 1440 that Gradio asks for, slow browsers record nothing.
_CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}

_NOTHING = '<p class="unloc-nothing">The video and its timeline appear here.</p>'

# Tells the report page in its frame which segments to show; nothing is computed and the video keeps playing.
_FILTER = """(most, least) => {
  for (const frame of document.querySelectorAll("iframe.unloc-report"))
    frame.contentWindow.postMessage({most, least}, "*");
}"""


def build(service: Service, model: str) -> Any:
    """Returns the `gradio.Blocks` of a service; `model`: what to call the model."""
    import gradio as gr

    gone = Gone()

    def find(
        video: str | None,
        link: str,
        sentences: str,
        top_k: float,
        threshold: float,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008  how Gradio hands it over
    ) -> tuple[str, dict[str, Any], str]:
        session = request.session_hash
        try:
            most, least = _checked(top_k, threshold)
            result = service.find(
                Path(video) if video else None,
                link or "",
                sentences or "",
                lambda fraction, text: progress(fraction, desc=text),
                lambda: session in gone,
            )
        except UserError as error:
            raise gr.Error(
                html.escape(str(error), quote=False), duration=None, print_exception=False
            ) from error
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            message = "Something went wrong in the demo itself; its operator finds more in its log."
            raise gr.Error(message, duration=None, print_exception=False) from error
        return _frame(result, most, least), result.values(most, least), result.token

    def narrow(token: str, top_k: float, threshold: float) -> Any:
        result = service.result(token)
        return gr.skip() if result is None else result.values(*_checked(top_k, threshold))

    limits: Limits = service.limits
    texts_info = "One a line." + (" None: the classes of the model." if service.vocabulary else "")
    with gr.Blocks(
        title="Find moments in a video",
        analytics_enabled=False,
        delete_cache=(_UPLOADS_CHECKED_S, _UPLOADS_KEPT_S),
    ) as page:
        gr.Markdown(f"# Find moments in a video\nModel: {_plain(model)}. Videos {limits}.")
        with gr.Row():
            with gr.Column(min_width=300):
                video = gr.Video(
                    label="Video",
                    sources=["upload", "webcam"],
                    webcam_options=gr.WebcamOptions(mirror=False, constraints=_CAMERA),
                    include_audio=True,
                    elem_classes="unloc-video",
                )
                _refuse_links(video)
                link = gr.Textbox(label="… or a link", info="The address of a video file.", max_lines=1)
            with gr.Column(min_width=300):
                sentences = gr.Textbox(label="Sentences", info=texts_info, lines=5, max_lines=12)
                with gr.Row():
                    top_k = gr.Slider(
                        1, MOST_SEGMENTS, 5, step=1, label="Segments per sentence", min_width=140
                    )
                    threshold = gr.Slider(0, 1, 0, step=0.01, label="Score at least", min_width=140)
                button = gr.Button("Find", variant="primary")
        frame = gr.HTML(_NOTHING, label="page")
        with gr.Accordion("Result as JSON", open=False):
            values = gr.JSON(label="result", show_label=False)
        token = gr.State("")
        button.click(
            find,
            [video, link, sentences, top_k, threshold],
            [frame, values, token],
            api_name="find",
            show_progress_on=frame,
        )
        for slider in (top_k, threshold):
            slider.change(None, [top_k, threshold], None, js=_FILTER)
            slider.release(
                narrow, [token, top_k, threshold], values, api_name=False, show_progress="hidden", queue=False
            )

        def closed(request: gr.Request) -> None:
            gone.add(request.session_hash)

        page.unload(closed)
    return page


def _refuse_links(video: Any) -> None:
    """Makes a component refuse addresses in the place of an uploaded file, which a program may send.

    Gradio would download them itself, whatever their size; `unloc_jax.demo.links` has limits. Not a separate class:
    Gradio writes a .pyi file beside the module of every class of components.
    """
    import gradio as gr

    move = video.async_move_resource_to_block_cache

    async def move_file(url_or_file_path: Any) -> str | None:
        if str(url_or_file_path).lower().startswith(("http:", "https:")):
            raise gr.Error("Give an address as “link”, not as “video”.", print_exception=False)
        return await move(url_or_file_path)

    video.async_move_resource_to_block_cache = move_file


def _checked(top_k: float, threshold: float) -> tuple[int, float]:
    """Returns both as numbers in their ranges; the API lets any value through."""
    try:
        most, least = int(top_k), float(threshold)
    except (TypeError, ValueError, OverflowError):
        raise UserError("top_k and threshold must be numbers.") from None
    if not 1 <= most <= MOST_SEGMENTS:
        raise UserError(f"top_k must be from 1 to {MOST_SEGMENTS}, got {most}.")
    if not 0 <= least <= 1:
        raise UserError(f"threshold must be from 0 to 1, got {least:g}.")
    return most, least


def _frame(result: Result, most: int, least: float) -> str:
    name = html.escape(result.prediction.video)
    address = html.escape(page_url(result.token, most, least))
    return (
        f'<iframe class="unloc-report" title="Moments in {name}" src="{address}" allow="fullscreen"></iframe>'
    )


def _plain(text: str) -> str:
    """Escapes what Markdown would interpret."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|" else c for c in text)
