"""The demo without its page: a video and sentences → a result that only its owner's address opens."""

import collections
import dataclasses
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unloc_jax.demo.limits import Limits, megabytes
from unloc_jax.demo.links import download
from unloc_jax.demo.videos import HeldVideo, HeldVideos
from unloc_jax.errors import UserError
from unloc_jax.inference.localizer import Localizer
from unloc_jax.inference.predictions import VideoPrediction, clock, to_json
from unloc_jax.inference.report import report_page
from unloc_jax.inference.zeroshot import ZeroShotLocalizer

MOST_SEGMENTS = 20  # per sentence, on the page and in a result
_VIDEOS_HELD = 10  # of the largest size
_MOST_RESULTS = 500
_REPORT_EVERY_S = 0.2
# A header may be wrong, and the last frame has a length.
_LENGTH_TOLERANCE = 1.05

Progress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """The prediction of one request.

    Attributes:
      token: whoever knows it sees this result; 256 random bits.
      prediction: whose video has the name that its owner knows.
      video: what the page plays.
      mime: of `video`.
    """

    token: str
    prediction: VideoPrediction
    video: Path
    mime: str

    def page(self) -> str:
        """Returns the report page; the video is at "video", relative to it."""
        return report_page(self.prediction, "video", MOST_SEGMENTS)

    def values(self, top_k: int, threshold: float) -> dict[str, Any]:
        """Returns `to_json` of the prediction with the best `top_k` segments of every text whose score is at least
        `threshold`."""
        texts = [
            dataclasses.replace(
                text, segments=[segment for segment in text.segments[:top_k] if segment.score >= threshold]
            )
            for text in self.prediction.texts
        ]
        return to_json(dataclasses.replace(self.prediction, texts=texts))


class Service:
    """Answers the requests of all visitors with one model.

    Args:
      localizer: the model.
      folder: for the videos; an own one, deleted by the caller.
      limits: of a request.
      allow_private_links: see `links.download`.
    """

    def __init__(
        self,
        localizer: Localizer | ZeroShotLocalizer,
        folder: Path,
        limits: Limits,
        *,
        allow_private_links: bool = False,
    ):
        self.limits = limits
        self.vocabulary = localizer.vocabulary if isinstance(localizer, Localizer) else ()
        self._localizer = localizer
        self._folder = folder
        self._videos = HeldVideos(folder / "videos", _VIDEOS_HELD * limits.max_bytes)
        self._allow_private_links = allow_private_links
        self._results: collections.OrderedDict[str, Result] = collections.OrderedDict()
        self._computing = (
            threading.Lock()
        )  # one video at a time: memory, and the devices have no more to give

    def find(
        self,
        video: Path | None,
        link: str,
        sentences: str,
        progress: Progress = lambda fraction, text: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Finds sentences in an uploaded video or in one behind a link.

        Args:
          video: an uploaded file, or None.
          link: address of a file, or "".
          sentences: one a line; "" = the classes of a model with a vocabulary.
          progress: called now and then with a fraction of the work and what is being done.
          stopped: whether nobody waits for the result any more.

        Raises:
          UserError: the request cannot be answered, in one line without folders of this machine.
        """
        texts = self.limits.sentences(sentences)
        if not texts and not self.vocabulary:
            raise UserError("Write at least one sentence, one a line, such as: a person sits down.")
        link = link.strip()
        if (video is None) == (not link):
            raise UserError(
                "Both a video and a link are given: remove one of them."
                if link
                else "Give a video: upload or record one, or give a link to a file."
            )
        watch = _Watch(progress, stopped)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            if video is None:
                video, name = Path(folder) / "download", ""
                name = download(
                    link, video, self.limits, allow_private=self._allow_private_links, watch=watch.download
                )
                video = video.rename(video.with_name(f"download{Path(name).suffix[:9]}"))
            else:
                name = video.name
                if not video.exists():
                    raise UserError(
                        f"{name} is no longer here: uploads are kept for an hour. Upload it again."
                    )
            with _names(video, name):
                length_s = self.limits.check_video(video, name)
                held = self._videos.hold(video)
        with _names(held.path, name):
            return self._find(held, name, texts, length_s, watch)

    def _find(self, held: HeldVideo, name: str, texts: list[str], length_s: float, watch: "_Watch") -> Result:
        while not self._computing.acquire(timeout=_REPORT_EVERY_S):
            watch(0.0, "Waiting for another video")
        try:

            def on_frame(time_s: float) -> None:
                self.limits.check_length(time_s / _LENGTH_TOLERANCE, name)
                watch(
                    min(0.9, 0.9 * time_s / length_s) if length_s else 0.0,
                    f"Read {clock(time_s)} of {clock(length_s)}",
                )

            watch(0.0, "Reading the video")
            embedded = self._localizer.embed_video(held.path, watch=on_frame)
            watch(0.9, "Searching")
            prediction = dataclasses.replace(self._localizer(embedded, texts), video=name)
            watch(0.95, "Preparing the video for the browser")
            playable, mime = held.playable(prediction.waveform is not None)
            result = Result(secrets.token_urlsafe(32), prediction, playable, mime)
            self._results[result.token] = result
            while len(self._results) > _MOST_RESULTS:
                self._results.popitem(last=False)
            return result
        finally:
            self._computing.release()

    def result(self, token: str) -> Result | None:
        """Returns the result with this token, if it is still there."""
        return self._results.get(token)


class _Watch:
    """Reports progress, a few times per second, and ends work that nobody waits for."""

    def __init__(self, progress: Progress, stopped: Callable[[], bool]):
        self._progress, self._stopped = progress, stopped
        self._last_s, self._last = 0.0, ""

    def __call__(self, fraction: float, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s < _REPORT_EVERY_S:
            return
        if self._stopped():
            raise UserError("Stopped: the page was closed.")
        self._last_s = now_s
        self._progress(fraction, text)

    def download(self, done: int, total: int | None) -> None:
        self(0.0, f"Downloaded {megabytes(done)}" + (f" of {megabytes(total)}" if total else ""))


class _names:
    """Replaces in errors the path of a file by the name that its owner gave it."""

    def __init__(self, path: Path, name: str):
        self._path, self._name = path, name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError) and str(self._path) in str(error):
            raise UserError(str(error).replace(str(self._path), self._name)) from error
