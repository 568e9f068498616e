"""Localizer: a checkpoint and a video → when each text happens. Needs neither the dataset nor TensorFlow."""

import dataclasses
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from unloc_jax.batch import Batch
from unloc_jax.config.towers import tokens_of
from unloc_jax.errors import UserError
from unloc_jax.features.feature_inputs import (
    ComputedFeatures,
    OpenVideo,
    description,
    sample_rows,
    with_rows,
)
from unloc_jax.features.given_features import Features, read_given
from unloc_jax.foreign_text import parse_json
from unloc_jax.frame_inputs import (
    ArrayFrames,
    Frames,
    SampledFrames,
    sample_frames,
    sample_timeline,
    watched,
)
from unloc_jax.inference.embedded_video import (
    CACHE_BYTES,
    EmbeddedVideo,
    EmbeddedWindow,
    GivenVideo,
    Video,
    VideoSearch,
    Watch,
)
from unloc_jax.inference.loaded_model import LoadedModel
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction
from unloc_jax.inference.texts import check_texts
from unloc_jax.inference.vocabulary_cache import TextEncoder
from unloc_jax.inference.waveform import waveform_of, waveform_of_file
from unloc_jax.model.clip import TextFeatures
from unloc_jax.sound import has_picture, read_sound
from unloc_jax.sound_inputs import sound_of_samples, sound_timeline, with_sound
from unloc_jax.sound_notes import notes_on_sound
from unloc_jax.sound_windows import Sound
from unloc_jax.tasks.windows import WindowOutput, classes_of_curves, merge_windows
from unloc_jax.text import words
from unloc_jax.training.checkpoints.presence import stored_threshold
from unloc_jax.training.checkpoints.reading import workdir_of
from unloc_jax.video import FrameStream, VideoError, VideoNote, video_length_s

_TEXTS_AT_ONCE = 64  # texts fused with a video in one call; limits memory
_NO_SOUND = VideoNote("no sound track", "found by picture alone")


@dataclasses.dataclass(frozen=True)
class _Heard:
    """The sound of a video for a model that hears; None = there is none, and why."""

    sound: Sound | None = None
    notes: tuple[VideoNote, ...] = ()
    audio_track: int | None = None


@dataclasses.dataclass(frozen=True)
class _Opened:
    """The inputs of a model; frames None = it hears alone. `path` is that of a file."""

    frames: Frames | OpenVideo | None
    heard: _Heard
    path: Path | None


class Localizer(VideoSearch):
    """Finds texts in videos.

    >>> import unloc_jax
    >>> localizer = unloc_jax.load("RUN")  # a workdir of `unloc train`, one of its steps, or an id of the hub
    >>> found = localizer("video.mp4", ["a red circle moves", "a square"])
    >>> for text in found:
    ...     print(text.text, "–", len(text.segments) > 0)
    a red circle moves – True
    a square – True
    >>> best = found["a square"].segments[0]
    >>> 0 <= best.start_s <= best.end_s <= found.duration_s and 0 < best.score <= 1
    True

    A file is decoded and embedded once: further texts cost the text tower and fusion (see `embed_video`).

    Args:
      model: as `load_model` returns it.
      cache_bytes: see `VideoSearch`.
      clip: for a model trained on features of `unloc features`, location of the encoder that computed them (a source
        that `unloc features --encoder` accepts); None = where it was then. It is read for the first video.

    Raises:
      UserError: `clip` is given, but it is another CLIP or not needed.
    """

    def __init__(self, model: LoadedModel, cache_bytes: int = CACHE_BYTES, clip: str | None = None):
        super().__init__(f"{model.step_dir} ({model.task_name})", cache_bytes)
        modalities = model.task.config.model.modalities
        self._reads_features = not all(modality.has_tower for modality in modalities.values())
        if clip is not None and not self._reads_features:
            itself = "frames" if model.task.config.model.reads_frames else "sound"
            raise UserError(f"--clip={clip}: this model reads {itself} itself, not features of a CLIP.")
        # A file is embedded once: only the middle crop.
        config = model.task.config
        config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, crops=1))
        task = dataclasses.replace(model.task, config=config)
        self._model = dataclasses.replace(model, task=task)
        self._encode_texts = TextEncoder(self._model)
        self._encode_videos = jax.jit(task.encode_videos)
        self._detect = jax.jit(task.detect_encoded)
        self._clip = clip
        if clip is not None:
            self.check_videos()

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
          video: a file, what `embed_video` returned, or frames or samples (see there).
          texts: one or many sentences. For a model with a vocabulary they may be any words too, and () = its classes.
          fps: frames per second of an array.
          sound: samples beside frames.
          rate: samples per second of an array.
          audio_track: which sound track of a file is heard; None = its default.

        Raises:
          UserError: no or empty texts, or a video that cannot be used.
        """
        task, metadata, text = self._model.task, self._model.metadata, self._model.task.config.model.text
        texts = texts or self.vocabulary
        if text.reads_tokens:
            tokens = tokens_of(task.config.model)
            most = text.max_tokens - tokens.added
            texts = check_texts(texts, most, lambda text: tokens.count(text) - tokens.added)
        else:
            texts = check_texts(texts, None)
        features = self._encode_texts(texts)
        embedded = self.embed_video(video, fps=fps, sound=sound, rate=rate, audio_track=audio_track)
        output, span_s = self._search(embedded, features)
        places = task.config.data.num_frames if output.curve is None else output.curve.shape[-1]
        times_s = np.linspace(span_s[0], span_s[1], places)
        flat = np.ones_like(times_s)  # for a task without a curve
        known = set(metadata.words)
        threshold = stored_threshold(self._model.step_dir, self._model.task_name)
        in_video = lambda time_s: min(float(time_s), embedded.duration_s)  # times of frames are float32
        predictions = [
            TextPrediction(
                text=text,
                segments=[
                    Segment(in_video(start), in_video(end), float(score))
                    for (start, end), score in zip(segments, scores)
                ],
                relevance_times_s=times_s,
                relevance=output.curve[0, i] if output.curve is not None else scores[0] * flat,
                unknown_words=[word for word in words(text) if known and word not in known],
                threshold=threshold,
            )
            for i, (text, (segments, scores)) in enumerate(zip(texts, task.segments(output, 0, span_s)))
        ]
        return VideoPrediction(
            embedded.name,
            embedded.duration_s,
            predictions,
            self.describe(),
            embedded.notes,
            waveform=embedded.waveform,
        )

    def check_videos(self) -> None:
        """Raises UserError if the model cannot read video files; reads the CLIP of a model of CLIP features."""
        _ = self._clip_features

    def embed_features(
        self,
        features: Mapping[str, Features],
        *,
        video: str | Path | None = None,
        duration_s: float | None = None,
        name: str = "",
        audio_track: int | None = None,
    ) -> EmbeddedVideo:
        """Embeds precomputed features of a video; pass the result to the call in place of a file.

        For models that read features of any program, alone or beside frames and sound: what `unloc data build
        --features` reads of one video. Rows without times are those of equal parts of the video, as in a build.

        Args:
          features: by the name of their modality: a file (.npy, .npz, .h5, .pt; "FILE:KEY" names one of several
            arrays), an array [F, D], or `StoredFeatures` with times.
          video: its file. A model that also reads frames or sound takes them from it; for others it is only measured.
          duration_s: length of the video in seconds; None = that of the file, else of the features.
          name: of the video; "" = that of its file, else of the first file of features.
          audio_track: see `embed_video`.

        Raises:
          UserError: the model reads other features, or frames or sound of a video that is not given; something given
            cannot be used; or the length of the video is unknown.
        """
        config, metadata = self._model.task.config, self._model.metadata
        if video is not None and duration_s is None:
            duration_s = video_length_s(Path(video))
        given = read_given(features, config, metadata, duration_s, with_video=video is not None)
        duration_s, notes = given.duration_s, given.notes
        files = [str(one) for one in (video, *features.values()) if isinstance(one, str | Path)]
        name = name or (files or ["features"])[0]
        file = GivenVideo(None if video is None else Path(video), audio_track=audio_track)
        heard = self._hear(file)
        # Rows of MediaSequence are in step with its frames.
        phase = 0.0 if metadata.name == "mediasequence" else 0.5
        if file.path is not None and config.model.reads_frames:
            stream = FrameStream(file.path, fps=metadata.fps, short_side=metadata.short_side)
            frames = sample_frames(stream, file.path.name, fps=metadata.fps, data=config.data)
            seen = with_rows(frames, given.rows, duration_s, phase)
            windows = self._embed_windows(self._with_sound(seen, heard))
            notes += stream.notes
        else:
            seen = sample_rows(given.rows, duration_s, config.data, phase)
            windows = self._embed_windows(self._with_sound(seen, heard))
        return self._embedded(name, duration_s, windows, notes, heard)

    @functools.cached_property
    def _clip_features(self) -> ComputedFeatures | None:
        """Computes the features that a model of CLIP features reads; None for a model that reads none.

        Raises:
          UserError: the model reads features that cannot be computed here, or its CLIP is gone.
        """
        if not self._reads_features:
            return None
        return ComputedFeatures(self._model.task.config, self._model.metadata, self._clip)

    def _open(self, video: GivenVideo, watch: Watch | None) -> "_Opened":
        heard = self._hear(video)
        if self._model.task.config.model.reads_frames or self._reads_features:
            return _Opened(self._open_frames(video, watch), heard, video.path)
        if watch is not None and heard.sound is not None:
            watch(heard.sound.end_s)
        return _Opened(None, heard, video.path)

    def _open_frames(self, video: GivenVideo, watch: Watch | None) -> Frames | OpenVideo:
        metadata, seen = self._model.metadata, video.frames if video.path is None else video.path
        if seen is None:
            raise UserError(
                "this model does not hear alone: give frames, and the samples beside them (fps=…, sound=…, rate=…)."
            )
        if self._clip_features is not None:
            return self._clip_features.open(seen, video.fps, watch)
        if isinstance(seen, np.ndarray):
            frames: Frames = ArrayFrames(
                seen, frames_fps=video.fps, fps=metadata.fps, short_side=metadata.short_side
            )
        else:
            frames = FrameStream(seen, fps=metadata.fps, short_side=metadata.short_side)
        return watched(frames, metadata.fps, watch)

    def _hear(self, video: GivenVideo) -> "_Heard":
        """Returns what a model that hears is to hear of a video.

        Raises:
          UserError: the sound cannot be used, or there is none, and there is nothing else to find texts by.
        """
        model = self._model.task.config.model
        if not model.reads_sound:
            video.check_unheard()
            return _Heard()
        rate, alone = model.audio.sample_rate, len(model.modalities) == 1
        if video.path is None:
            if video.sound is not None:
                return _Heard(sound_of_samples(video.sound, video.rate, rate))
            if alone:
                raise UserError("this model hears alone: give samples (rate=…) in place of frames.")
            return _Heard(notes=(_NO_SOUND,))
        try:
            sound = read_sound(video.path, rate, video.audio_track)
        except VideoError as error:
            if alone or video.audio_track is not None:
                raise
            return _Heard(notes=(VideoNote(f"no sound: {error.kind}", str(error)),))  # as in a build
        if sound is not None and sound.end_s:
            return _Heard(sound, audio_track=video.audio_track)
        if alone:
            missing = "no sound track" if sound is None else "no sample in the sound track"
            raise UserError(f"{video.path}: there is {missing}, and this model hears alone.")
        return _Heard(notes=(_NO_SOUND,) if sound is None else notes_on_sound(sound, 0.0))

    def _embed(self, opened: "_Opened", name: str) -> EmbeddedVideo:
        data, metadata = self._model.task.config.data, self._model.metadata
        frames, heard = opened.frames, opened.heard
        # The length of frames is known only after all of them have been seen.
        if frames is None:
            assert heard.sound is not None
            duration_s = heard.sound.end_s
            if opened.path is not None and has_picture(opened.path):
                duration_s = video_length_s(opened.path)
            all_seen = sample_timeline(sound_timeline(duration_s, metadata.fps), data)
            windows = self._embed_windows(self._with_sound(all_seen, heard))
            return self._embedded(name, duration_s, windows, (), heard)
        if isinstance(frames, OpenVideo):
            assert self._clip_features is not None
            all_seen = self._clip_features.sample(frames)
        else:
            all_seen = sample_frames(frames, Path(name).name, fps=metadata.fps, data=data)
        windows = self._embed_windows(self._with_sound(all_seen, heard))
        embedded = self._embedded(name, frames.duration_s, windows, frames.notes, heard)
        by_features = self._clip_features is not None and self._clip_features.hears
        if by_features and embedded.waveform is None and opened.path is not None:
            waveform = waveform_of_file(opened.path, frames.duration_s, None)
            return dataclasses.replace(embedded, waveform=waveform)
        return embedded

    def _with_sound(self, all_seen: Iterable[SampledFrames], heard: "_Heard") -> Iterable[SampledFrames]:
        model = self._model.task.config.model
        if not model.reads_sound:
            return all_seen
        return with_sound(all_seen, heard.sound, "audio", model.audio.window_s, model.audio.sample_rate)

    def _embed_windows(self, all_seen: Iterable[SampledFrames]) -> tuple[EmbeddedWindow, ...]:
        windows = []
        for seen in all_seen:
            tokens = jax.device_get(self._encode_videos(self._model.params, _batch_of(seen)))
            windows.append(EmbeddedWindow(tokens[0], seen.mask, seen.span_s))
        return tuple(windows)

    def _embedded(
        self,
        name: str,
        duration_s: float,
        windows: tuple[EmbeddedWindow, ...],
        notes: tuple[VideoNote, ...],
        heard: "_Heard",
    ) -> EmbeddedVideo:
        waveform, notes = None, (*notes, *heard.notes)
        if heard.sound is not None:
            waveform = waveform_of(heard.sound, duration_s, heard.audio_track)
            notes += notes_on_sound(heard.sound, duration_s)
        return EmbeddedVideo(name, duration_s, windows, self._model_name, notes, waveform)

    def _search(self, video: EmbeddedVideo, features: TextFeatures) -> tuple[Any, np.ndarray]:
        """Returns an `Output` of NumPy arrays [1, N, …], and the times (s) of its curve's first and last point."""
        config = self._model.task.config
        head, count = config.model.head, features.sentence.shape[1]
        # Where all texts share their boundaries, they must be fused in one call.
        together = head.type == "conv" and not head.offsets_per_text
        at_once = count if together else min(_TEXTS_AT_ONCE, 1 << (count - 1).bit_length())
        found = []
        few = count <= at_once
        bar = tqdm(total=count, desc="searching", unit="text", file=sys.stderr, leave=False, disable=few)
        shows_classes = False
        for start in range(0, count, at_once):
            chunk = jax.tree.map(lambda x, start=start: x[:, start : start + at_once], features)
            size = chunk.sentence.shape[1]
            filled = jax.tree.map(lambda x, size=size: _filled(x, at_once - size), chunk)
            windows = []
            for window in video.windows:
                arrays = (window.tokens[None], window.mask[None], window.span_s[None])
                output = jax.device_get(self._detect(self._model.params, *arrays, filled))
                shows_classes = output.frame_classes is not None
                output = dataclasses.replace(output, frame_classes=None)  # computed below, over all texts
                output = jax.tree.map(lambda x, size=size: x[:, :size], output)
                windows.append(WindowOutput(output, window.span_s, window.mask))
            found.append(
                merge_windows(windows, config.evaluation)
                if config.data.windowed
                else (windows[0].output, windows[0].span_s)
            )
            bar.update(size)
        bar.close()
        output = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *(output for output, _ in found))
        if shows_classes:
            output = dataclasses.replace(output, frame_classes=classes_of_curves(output.curve))
        return output, found[0][1]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The texts that are searched for if none are given; () for a model without a vocabulary."""
        return tuple(self._model.task.evaluation_classes)

    def describe(self) -> dict[str, str]:
        """Returns details of the model to show with its predictions; names only, no folders."""
        config = self._model.task.config
        step_dir = self._model.step_dir
        data, modalities = config.data, config.model.modalities
        features = [name for name, modality in modalities.items() if not modality.has_tower]
        sees = []
        if config.model.reads_frames:
            sees.append(f"{data.num_frames} frames of {data.crop_size}×{data.crop_size}")
        if features:
            rows = description(features, self._model.metadata.feature_settings)
            sees.append(f"{data.num_frames} rows of {rows}")
        details = {
            "checkpoint": f"{workdir_of(step_dir).name}, step {step_dir.name}",
            "trained on": Path(data.dir).name,
        }
        if sees:
            details["sees"] = " and ".join(sees)
        if config.model.reads_sound:
            audio = config.model.audio
            details["hears"] = (
                f"{data.num_frames} windows of {audio.window_s:g} s at {audio.sample_rate / 1000:g} kHz"
            )
        return details | _measured(self._model.step_dir)


def _filled(x: np.ndarray, more: int) -> np.ndarray:
    """Pads [1, n, …] → [1, n + more, …] by repeating the last entry."""
    return np.concatenate([x, *[x[:, -1:]] * more], axis=1)


def _batch_of(seen: SampledFrames) -> Batch:
    """Returns a batch of one video without texts or segments."""
    return Batch(
        frames=None if seen.frames is None else jnp.asarray(seen.frames)[None],
        frame_mask=jnp.asarray(seen.mask)[None],
        text_tokens=jnp.zeros((1, 0, 1), jnp.int32),
        text_mask=jnp.zeros((1, 0), bool),
        segments=jnp.zeros((1, 0, 2), jnp.float32),
        segment_text=jnp.zeros((1, 0), jnp.int32),
        span_s=jnp.asarray(seen.span_s)[None],
        example_mask=jnp.ones((1,), bool),
        features={name: jnp.asarray(rows)[None] for name, rows in seen.features.items()},
        input_masks={name: jnp.asarray(there)[None] for name, there in seen.input_masks.items()},
    )


def _measured(step_dir: Path) -> dict[str, str]:
    """Returns the metrics that `unloc evaluate` wrote beside this checkpoint, if any: how far it can be trusted."""
    file = workdir_of(step_dir) / "evaluation" / "test" / "metrics.json"
    try:
        metrics = parse_json(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if metrics.get("checkpoint") != str(step_dir):
        return {}
    details = {}
    if "recall" in metrics:
        details["best segment right (IoU ≥ 0.5)"] = (
            f"{metrics['recall']['model']['R1@0.5']:.0f} % of test queries"
        )
        for attribute, value in metrics["right_event"]["differs_only_in"].items():
            if value["count"]:
                details[f"only {attribute} differs"] = (
                    f"{value['rate']:.0f} % right (chance {value['chance']:.0f} %)"
                )
    if "mAP" in metrics:
        details |= {f"test {name}": f"{value:.1f} %" for name, value in metrics["mAP"].items() if ":" in name}
    return details
