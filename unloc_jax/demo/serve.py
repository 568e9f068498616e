"""Starts the demo's server."""

import inspect
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from unloc_jax.console import show
from unloc_jax.demo.limits import Limits
from unloc_jax.demo.routes import Guard, routes
from unloc_jax.demo.service import Service
from unloc_jax.demo.ui import CSS, build
from unloc_jax.errors import UserError
from unloc_jax.inference.localizer import Localizer
from unloc_jax.inference.zeroshot import ZeroShotLocalizer

# Requests that download at the same time; the model itself takes one video after the other.
_AT_ONCE = 4
_MOST_WAITING = 40


def serve(
    localizer: Localizer | ZeroShotLocalizer,
    model: str,
    *,
    limits: Limits | None = None,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    allow_private_links: bool = False,
) -> None:
    """Serves the demo until it is interrupted; then deletes everything that visitors left.

    Args:
      localizer: what `unloc_jax.load` returned.
      model: its name on the page.
      limits: of a request.
      host: address to listen on; None = GRADIO_SERVER_NAME if set, else this machine only.
      port: None = the first free one from 7860 on.
      share: also through a public link of Gradio's, for 72 hours at most.
      allow_private_links: see `unloc_jax.demo.links.download`.

    Raises:
      UserError: Gradio is missing, or the port is taken.
    """
    # Containers are ended so; what visitors left is deleted then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="unloc_demo_") as folder:
        page = start(
            localizer,
            model,
            Path(folder),
            limits=limits or Limits(),
            host=host,
            port=port,
            share=share,
            allow_private_links=allow_private_links,
        )
        show(f"serving at {page.local_url}; Ctrl+C ends it")
        if share and page.share_url:
            show(f"for everybody, for up to 72 hours: {page.share_url}")
        page.block_thread()


def start(
    localizer: Localizer | ZeroShotLocalizer,
    model: str,
    folder: Path,
    *,
    limits: Limits,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    allow_private_links: bool = False,
) -> Any:
    """Starts the server in a thread and returns its `gradio.Blocks`; `folder`: for what visitors send. See `serve`."""
    # What visitors send is kept below a separate folder, which no other program's Gradio serves. Gradio reads this when
    # it is imported and when a page is built.
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
        from starlette.middleware import Middleware
    except ImportError as error:
        raise UserError("the demo needs Gradio: pip install 'unloc_jax[demo]'.") from error

    service = Service(localizer, folder, limits, allow_private_links=allow_private_links)
    page = build(service, model)
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=_AT_ONCE)
    options = {
        "server_name": host,
        "server_port": port,
        "share": share,
        "max_file_size": limits.max_bytes,
        "app_kwargs": {"routes": routes(service), "middleware": [Middleware(Guard)]},
        "css": CSS,
        "footer_links": ["api"],
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "prevent_thread_lock": True,
        "quiet": True,
    }
    known = inspect.signature(gradio.Blocks.launch).parameters  # older releases lack some
    try:
        page.launch(**{name: value for name, value in options.items() if name in known})
    except OSError as error:
        where = "the ports from 7860 on are" if port is None else f"--port={port} is"
        raise UserError(f"{where} taken, or cannot be used here: choose another one.") from error
    return page
