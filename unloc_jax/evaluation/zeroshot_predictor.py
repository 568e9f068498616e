"""`unloc evaluate --zeroshot-clip`: CLIP by late fusion over a dataset, measured as a trained model is."""

import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from unloc_jax import config as config_lib
from unloc_jax.dataset import DatasetFacts
from unloc_jax.errors import UserError
from unloc_jax.evaluation.predictor import Annotations
from unloc_jax.features.clip_encoder import ClipEncoder, unit
from unloc_jax.frame_times import shown_frames
from unloc_jax.inference.zeroshot import check_settings
from unloc_jax.inference.zeroshot_scores import localize, smooth
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Found, make_task

# What a dataset is for, by the format of its annotations; others: actions if it has classes, moments if not.
_TASKS = {
    "qvhighlights": "highlight_detection",
    "tvsum": "highlight_detection",
    "youtube_highlights": "highlight_detection",
    "coin": "action_segmentation",
    "kinetics": "classification",
}
_CLASS_PROMPT = "a video of {}."
_VIDEOS_AT_ONCE = 16  # whose embeddings share batches
_TEXTS_AT_ONCE = 256


class ClipFinder:
    """CLIP, nothing trained; see `unloc_jax.evaluation.predictor.Finder`.

    A segment is a stretch that stands out from what is around it (see `ZeroShotLocalizer`). Where all videos are
    searched for the same classes, its score is multiplied by the class's share: softmax over the classes of CLIP's
    logits, averaged over the segment's frames. A frame shows the class of the highest smoothed cosine; a video the one
    of the highest mean.

    Args:
      encoder: the CLIP.
      dataset: `data_pipelines.reading.shards.UnlocShards`.
      directory: of the dataset, for messages.
      with_frames: split → its records, with their frames.
      task: what is measured; None = what the dataset is for.
      vocabulary: the classes, instead of the dataset's.
      prompts: around every text, the embeddings are averaged; () = "a video of {}." for classes, nothing for sentences.
      fps, smoothing_s: see `ZeroShotLocalizer`.

    Raises:
      UserError: a dataset without frames, or without what the task needs; settings out of range.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
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
        facts = dataset.facts
        if not facts.short_side:
            raise UserError(f"{directory} holds no frames, which CLIP looks at: build it with --videos=DIR.")
        for prompt in prompts:
            if prompt.count("{}") != 1:
                raise UserError(f"--prompt={prompt!r}: write {{}} once, where the text belongs.")
        classes = list(vocabulary or facts.classes)
        name = (
            task
            or _TASKS.get(facts.name)
            or ("temporal_action_localization" if classes else "moment_retrieval")
        )
        prompts = prompts or ((_CLASS_PROMPT,) if name in config_lib.VOCABULARY_TASKS else ("{}",))
        settings = {"task": name, "data": {"dir": directory, "prompts": tuple(prompts)}}
        known = DatasetFacts(facts.name, facts.fps, facts.short_side, classes, [], facts.fingerprint)
        self.dataset, self.task, self.task_name = (
            dataset,
            make_task(config_lib.from_mapping(settings), known),
            name,
        )
        self._encoder, self._with_frames = encoder, with_frames
        self._fps, self._smoothing_s = fps, smoothing_s
        self.facts: dict[str, Any] = {
            "clip": encoder.clip.source,
            "zeroshot": {"fps": fps, "smoothing_s": smoothing_s, "prompts": list(prompts)},
        }

    def check_fit(self, records: Sequence[VideoRecord]) -> None:
        known = self.task.evaluation_classes
        unknown = sorted({text for record in records for text in record.texts} - set(known))
        if known and unknown:
            raise UserError(
                f"{len(unknown)} classes of this dataset, such as {unknown[0]!r}, are none of the vocabulary's "
                f"{len(known)}."
            )

    def find(self, split: str, texts: Sequence[Sequence[str]]) -> Found:
        embeddings = self._embed_texts(list(dict.fromkeys(text for of_video in texts for text in of_video)))
        found = Found([list(of_video) for of_video in texts])
        for record, of_frames, of_video in zip(self.dataset.records(split), self._embed_videos(split), texts):
            found.spans_s.append(np.array([0.0, (len(of_frames) - 1) / self._fps], np.float32))
            of_texts = np.array([embeddings[text] for text in of_video]).reshape(-1, of_frames.shape[1])
            self._add(found, of_texts @ of_frames.T, record.duration_s)
        return found

    def _embed_texts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Of length 1, the mean over the prompts."""
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
        """Per record float32 [F, D], of length 1: frames at 0 / fps, 1 / fps, …"""
        total = len(self.dataset.records(split))
        bar = tqdm(total=total, desc=f"evaluate {split}", unit="video", file=sys.stderr)
        records = self._with_frames(split)
        while group := list(itertools.islice(records, _VIDEOS_AT_ONCE)):
            shown = [shown_frames(len(r.frames), r.fps, self._fps) for r in group]
            pictures = (picture for r, numbers in zip(group, shown) for picture in _pictures(r, numbers))
            of_group = unit(self._encoder.encode_stream(pictures))
            bar.update(len(group))
            yield from np.split(of_group, np.cumsum([len(numbers) for numbers in shown])[:-1])
        bar.close()

    def _add(self, found: Found, cosines: np.ndarray, duration_s: float) -> None:
        """Adds one video; cosines [N, F]."""
        config = self.task.config
        if config.task == "action_segmentation":
            smoothed = np.array([smooth(row, self._smoothing_s * self._fps) for row in cosines])
            found.frame_classes.append(smoothed.argmax(0).astype(np.int32))
            return
        logits = cosines * np.exp(np.asarray(self._encoder.clip.params["logit_scale"]))
        if config.task in ("classification", "video_text_contrastive"):
            found.video_scores.append(logits.mean(1))
            return
        shares = None
        if config.with_vocabulary:
            likely = np.exp(logits - logits.max(0))
            shares = likely / likely.sum(0)
        curves, rows = localize(
            cosines,
            fps=self._fps,
            smoothing_s=self._smoothing_s,
            duration_s=duration_s,
            settings=config.evaluation,
            shares=shares,
        )
        padded = np.zeros((len(rows), max([1, *map(len, rows)]), 3))
        for i, of_text in enumerate(rows):
            padded[i, : len(of_text)] = of_text
        found.segments_s.append(padded[..., :2].astype(np.float32))
        found.scores.append(padded[..., 2].astype(np.float32))
        found.curves.append(curves)


def _pictures(record: VideoRecord, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Some of a record's frames, uint8 [H, W, 3], as they are stored."""
    last, picture = -1, np.zeros(0, np.uint8)
    for number in numbers.tolist():
        if number != last:
            with Image.open(io.BytesIO(record.frames[number])) as opened:
                last, picture = number, np.asarray(opened.convert("RGB"))
        yield picture
