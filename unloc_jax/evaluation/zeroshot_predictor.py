"""`unloc evaluate --zeroshot-clip`: late fusion by an encoder alone over a dataset, measured as training is."""

import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from unloc_jax import config as config_lib
from unloc_jax.console import show
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.evaluation.predictor import Annotations
from unloc_jax.features.clap_encoder import ClapEncoder
from unloc_jax.features.encoder import Encoder, unit
from unloc_jax.frame_times import shown_frames
from unloc_jax.inference.zeroshot import check_settings
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import TASKS, SplitPredictions, make_task, task_for
from unloc_jax.tasks.predict_split import append_video
from unloc_jax.tasks.zeroshot_scores import Similarities

_CLASS_PROMPT = "a video of {}."
_VIDEOS_AT_ONCE = 16  # whose embeddings share batches
_TEXTS_AT_ONCE = 256


class ClipPredictor:
    """Predicts by an encoder without training; see `unloc_jax.evaluation.predictor.Predictor`.

    An encoder of sound hears the dataset's sound, resampled to its own samples per second.

    What it makes of the similarities of frames and texts is the task's rule, `Task.zeroshot`.

    Args:
      encoder: see `open_encoder`.
      dataset: `data_pipelines.reading.shards.UnlocShards`.
      directory: of the dataset, for messages.
      with_frames: split → its records, with their frames and sound.
      task: what is measured; None = what the dataset is for.
      vocabulary: the classes, instead of the dataset's.
      prompts: around every text, the embeddings are averaged; () = "a video of {}." for classes, nothing for sentences.
      fps, smoothing_s: see `ZeroShotLocalizer`.

    Raises:
      UserError: a dataset without frames (or without sound, for an encoder that hears), or without what the task needs;
        settings out of range; an encoder that cannot read texts.
    """

    def __init__(
        self,
        encoder: Encoder,
        dataset: Annotations,
        directory: str,
        with_frames: Callable[[str], Iterator[VideoRecord]],
        *,
        task: str | None = None,
        vocabulary: Sequence[str] = (),
        prompts: Sequence[str] = (),
        fps: float = 2.0,
        smoothing_s: float = 1.0,
    ):
        check_settings(fps, smoothing_s)
        encoder.check_texts()
        metadata = dataset.metadata
        if encoder.hears and not metadata.sound_rate:
            raise UserError(
                f"{directory} holds no sound, which {encoder.name} needs: build it with --videos=DIR --audio."
            )
        if not encoder.hears and not metadata.short_side:
            raise UserError(f"{directory} holds no frames, which CLIP needs: build it with --videos=DIR.")
        for prompt in prompts:
            if prompt.count("{}") != 1:
                raise UserError(f"--prompt={prompt!r}: write {{}} once, where the text belongs.")
        classes = list(vocabulary or metadata.classes)
        kind = TASKS[task] if task else task_for(metadata.name, bool(classes))
        prompts = prompts or ((_CLASS_PROMPT,) if kind.with_vocabulary else ("{}",))
        settings = {"task": kind.name, "data": {"dir": directory, "prompts": tuple(prompts)}}
        known = DatasetMetadata(
            metadata.name, metadata.fps, metadata.short_side, classes, [], metadata.fingerprint
        )
        self.dataset, self.task_name = dataset, kind.name
        self.task = make_task(config_lib.from_mapping(settings), known)
        self.step_dir: Path | None = None
        self._encoder, self._with_frames = encoder, with_frames
        self._fps, self._smoothing_s = fps, smoothing_s
        self.metadata: dict[str, Any] = {
            "clip": encoder.source,
            "zeroshot": {"fps": fps, "smoothing_s": smoothing_s, "prompts": list(prompts)},
        }

    def predict(self, split: str, texts: Sequence[Sequence[str]]) -> SplitPredictions:
        embeddings = self._embed_texts(list(dict.fromkeys(text for of_video in texts for text in of_video)))
        predictions = SplitPredictions([list(of_video) for of_video in texts])
        scale = self._encoder.logit_scale
        for record, of_frames, of_video in zip(self.dataset.records(split), self._embed_videos(split), texts):
            of_texts = np.array([embeddings[text] for text in of_video]).reshape(-1, of_frames.shape[1])
            video = Similarities(
                of_texts @ of_frames.T, self._fps, self._smoothing_s, record.duration_s, scale
            )
            span_s = np.array([0.0, (len(of_frames) - 1) / self._fps], np.float32)
            append_video(predictions, self.task.zeroshot(video), span_s, curves=True)
        return predictions

    def _embed_texts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Embeds each text, averaged over the prompts: float32 [D] of length 1."""
        prompts, made = self.task.encoding.prompts, []
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        bar = tqdm(
            starts, "encoding texts", unit="batch", file=sys.stderr, leave=False, disable=len(starts) < 2
        )
        for start in bar:
            chunk = texts[start : start + _TEXTS_AT_ONCE]
            filled = [prompt.replace("{}", text) for text in chunk for prompt in prompts]
            of_prompts = unit(self._encoder.encode_texts(filled)).reshape(len(chunk), len(prompts), -1)
            made.append(unit(of_prompts.mean(1)))
        return dict(zip(texts, np.concatenate(made)))

    def _embed_videos(self, split: str) -> Iterator[np.ndarray]:
        """Embeds frames at 0 / fps, 1 / fps, …: float32 [F, D] of length 1 per record."""
        total = len(self.dataset.records(split))
        bar = tqdm(total=total, desc=f"evaluate {split}", unit="video", file=sys.stderr)
        records, unheard = self._with_frames(split), 0
        while group := list(itertools.islice(records, _VIDEOS_AT_ONCE)):
            unheard += sum(record.sound is None for record in group)
            yield from map(unit, self._encoder.encode_streams(map(self._stream, group)))
            bar.update(len(group))
        bar.close()
        if self._encoder.hears and unheard:
            show(f"{unheard} of {total} videos have no sound: nothing can be found in them by ear")

    def _stream(self, record: VideoRecord) -> Iterator[np.ndarray]:
        """Returns what the encoder reads of a record at 0 / fps, 1 / fps, …"""
        if isinstance(self._encoder, ClapEncoder):
            return iter(self._encoder.open_sound(record.sound, record.duration_s, self._fps))
        return _pictures(record, shown_frames(len(record.frames), record.fps, self._fps))


def _pictures(record: VideoRecord, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Reads some of a record's frames, uint8 [H, W, 3], as they are stored."""
    last, picture = -1, np.zeros(0, np.uint8)
    for number in numbers.tolist():
        if number != last:
            with Image.open(io.BytesIO(record.frames[number])) as opened:
                last, picture = number, np.asarray(opened.convert("RGB"))
        yield picture
