"""Late fusion with an encoder alone, such as CLIP, without training: the baseline that every trained model must beat.

A text's relevance is each frame's similarity to it, smoothed over time; segments are the stretches that stand out from
their surroundings.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from unloc_jax.config import EvaluationConfig
from unloc_jax.console import printable
from unloc_jax.errors import UserError
from unloc_jax.features.clap_encoder import ClapEncoder
from unloc_jax.features.encoder import Encoder, unit
from unloc_jax.features.sound_stream import SoundStream
from unloc_jax.frame_inputs import ArrayFrames, Frames, watched
from unloc_jax.inference.embedded_video import (
    CACHE_BYTES,
    EmbeddedVideo,
    EmbeddedWindow,
    GivenVideo,
    Video,
    VideoSearch,
    Watch,
)
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction
from unloc_jax.inference.texts import check_texts
from unloc_jax.inference.waveform import waveform_of_file
from unloc_jax.tasks.zeroshot_scores import Similarities, localize
from unloc_jax.video import check_fps


class ZeroShotLocalizer(VideoSearch):
    """Finds texts in videos by an encoder alone, such as CLIP; called like `Localizer`.

    Relevance is the cosine of frame and text, smoothed and stretched to [0, 1] over the video: it compares moments of
    one video, not videos. A segment's score is its mean relevance minus that of its surroundings. `unloc evaluate
    --zeroshot-clip` computes the same, except that for classes, which exclude each other, it also multiplies the scores
    by the classes' shares, so that videos can be compared.

    >>> import unloc_jax
    >>> localizer = unloc_jax.load("CLIP")  # what `unloc import` wrote, KIND:SRC such as hf-clip:FOLDER, or an id
    >>> video = localizer.embed_video("video.mp4")
    >>> [text.text for text in localizer(video, ["a red circle", "a square"])]
    ['a red circle', 'a square']

    Args:
      encoder: see `open_encoder`.
      fps: frames per second to embed.
      smoothing_s: standard deviation of the Gaussian, in seconds; 0 = none.
      cache_bytes: see `VideoSearch`.

    Raises:
      UserError: fps or smoothing_s out of range, or the encoder cannot read texts.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        fps: float = 2.0,
        smoothing_s: float = 1.0,
        cache_bytes: int = CACHE_BYTES,
    ):
        super().__init__(f"{encoder.source} at {fps:g} frames per second", cache_bytes)
        check_settings(fps, smoothing_s)
        encoder.check_texts()
        self._encoder, self._fps, self._smoothing_s = encoder, fps, smoothing_s

    def __call__(
        self,
        video: Video,
        texts: str | Sequence[str] = (),
        *,
        fps: float | None = None,
        sound: np.ndarray | None = None,
        rate: float | None = None,
        audio_track: int | None = None,
    ) -> VideoPrediction:
        """Returns segments and relevance curve of every text.

        Args:
          video: a file, what `embed_video` returned, or frames (see there).
          texts: one or many sentences.
          fps: frames per second of an array.
          sound, rate, audio_track: see `embed_video`.

        Raises:
          UserError: no or empty texts, or a video that cannot be used.
        """
        texts = check_texts(texts, self._encoder.most_pieces, self._encoder.num_pieces)
        of_texts = unit(self._encoder.encode_texts(texts))
        embedded = self.embed_video(video, fps=fps, sound=sound, rate=rate, audio_track=audio_track)
        of_frames = embedded.windows[0].tokens
        times_s = np.arange(len(of_frames)) / self._fps
        found = []
        similarities = Similarities(of_texts @ of_frames.T, self._fps, self._smoothing_s, embedded.duration_s)
        curves, rows_of_texts = localize(similarities, EvaluationConfig())
        for text, curve, rows in zip(texts, curves, rows_of_texts):
            segments = [Segment(*row) for row in rows.tolist()]
            found.append(TextPrediction(text, segments, times_s, curve, unknown_words=[]))
        encoder = self._encoder
        details = {
            "model": f"{encoder.name} ({encoder.label})",
            "hears" if encoder.hears else "sees": encoder.sees(self._fps),
        }
        return VideoPrediction(
            embedded.name,
            embedded.duration_s,
            found,
            details,
            embedded.notes,
            stretched=True,
            waveform=embedded.waveform,
        )

    def _open(self, video: GivenVideo, watch: Watch | None) -> tuple[Frames, GivenVideo]:
        return watched(self._frames(video), self._fps, watch), video

    def _frames(self, video: GivenVideo) -> Frames:
        if isinstance(self._encoder, ClapEncoder):
            return self._windows(self._encoder, video)
        video.check_unheard()
        if video.frames is not None:
            return ArrayFrames(video.frames, frames_fps=video.fps, fps=self._fps, short_side=None)
        assert video.path is not None
        return self._encoder.open(video.path, self._fps)

    def _windows(self, encoder: ClapEncoder, video: GivenVideo) -> SoundStream:
        """Opens the sound of a file, or samples, as windows."""
        if video.path is not None:
            return encoder.open(video.path, self._fps, track=video.audio_track)
        if video.frames is not None or video.sound is None:
            raise UserError(
                f"{encoder.name} reads sound: give it a file, or samples (with rate), and no frames."
            )
        return encoder.open_samples(video.sound, video.rate, self._fps)

    def _embed(self, opened: tuple[Frames, GivenVideo], name: str) -> EmbeddedVideo:
        frames, video = opened
        title = f"embedding {Path(name).name}"
        bar = tqdm(frames, desc=printable(title), unit="frame", delay=3, file=sys.stderr, leave=False)
        tokens = unit(self._encoder.encode_stream(bar))
        span_s = np.array([0.0, (len(tokens) - 1) / self._fps], np.float32)
        window, waveform = EmbeddedWindow(tokens, np.ones(len(tokens), bool), span_s), None
        if self._encoder.hears and video.path is not None:
            waveform = waveform_of_file(video.path, frames.duration_s, video.audio_track)
        return EmbeddedVideo(name, frames.duration_s, (window,), self._model_name, frames.notes, waveform)


def check_settings(fps: float, smoothing_s: float) -> None:
    """Checks the settings of frames and smoothing.

    Raises:
      UserError: fps or smoothing_s out of range.
    """
    check_fps(fps)
    if not smoothing_s >= 0:
        raise UserError(f"--smoothing must be at least 0 seconds, got {smoothing_s:g}.")
