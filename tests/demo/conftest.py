"""A tiny CLIP of random numbers, tiny videos, and a web server of the machine's own network."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pretrained.clip_tools import clip_with_all_words
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.demo.limits import Limits
from unloc_jax.features.clip_encoder import ClipEncoder
from unloc_jax.inference.zeroshot import ZeroShotLocalizer

LIMITS = Limits(max_bytes=300_000, max_s=8.0, max_texts=5, max_characters=60)


class Counting(ZeroShotLocalizer):
    """Counts the videos that it embeds, and the frames."""

    embedded = 0
    frames_seen = 0

    def _embed(self, frames, name):
        self.embedded += 1
        return super()._embed(frames, name)


@pytest.fixture(scope="session")
def localizer() -> Counting:
    return Counting(ClipEncoder(clip_with_all_words(), batch_size=2))


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """`short.mp4` (4 s), `other.mp4` (3 s), `long.mp4` (12 s), `old.mkv` (3 s; browsers need a copy); and no videos."""
    folder = tmp_path_factory.mktemp("films")
    write_video(folder / "short.mp4", regular_times_ms(4.0))
    write_video(folder / "other.mp4", regular_times_ms(3.0))
    write_video(folder / "long.mp4", regular_times_ms(12.0))
    write_video(folder / "closed.mp4", regular_times_ms(7.0))
    write_video(folder / "old.mkv", regular_times_ms(3.0), codec="mpeg4")
    (folder / "words.mp4").write_text("not a film\n" * 100)
    (folder / "large.mp4").write_bytes(bytes(LIMITS.max_bytes + 1))
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile short.mp4\n")
    return folder


@pytest.fixture
def site() -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """`site(answer)` serves `answer(handler)` for every GET on 127.0.0.1, and returns the address."""
    servers = []

    def start(answer: Callable[[Any], None]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sends(content: bytes, kind: str = "video/mp4", length: int | None = None) -> Callable[[Any], None]:
    """An answer with this content; `length`: what the header claims, -1 = nothing."""

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if length != -1:
            handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirects(to: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer
