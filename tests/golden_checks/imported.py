"""A model golden brought into this project: config, parameters, inputs and targets, by way of the importer."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.config import Config, from_mapping
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.losses import boundary_loss, offsets_iou, parse_boundary_loss, relevance_loss
from unloc_jax.localization.targets import Targets
from unloc_jax.model import padding
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.pretrained.scenic_config import to_config
from unloc_jax.pretrained.scenic_unloc import Params, naming_of, to_params
from unloc_jax.tasks import Task, make_task

SMOOTHING_NOTE = (
    "label smoothing spreads over the number of classes, as the reference does (the product: over 2)"
)
SUBSAMPLE_NOTE = "subsample takes the last token for those past the end of a level, as the reference does"
EMBEDDINGS_NOTE = "given embeddings of queries: the product refuses them, its model and losses are compared"
PADDING_NOTE = "convolutions see padded frames, as the reference's do (the product's do not)"
GATHER_NOTE = "queries of other videos are masked with their own video's frame mask, as the reference does"


@flax.struct.dataclass
class Forward:
    """Returns the model's outputs for the golden's inputs; `all_pairs` also pairs videos with others' queries."""

    video: jax.Array
    text: TextFeatures
    all_pairs: Localization


class Golden:
    """One model golden."""

    def __init__(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]):
        self.arrays, self.meta = arrays, meta
        reference = meta["config"]
        self.reference_params = {
            key.removeprefix("params/"): array for key, array in arrays.items() if key.startswith("params/")
        }
        self.notes: list[str] = []
        self.config = self._config(reference)
        self.naming = naming_of(self.config, self.reference_params)
        self.params, self.report = to_params(self.reference_params, self.config)
        self.task = self._task()

    def _config(self, reference: dict[str, Any]) -> Config:
        ours = to_config(reference, self.reference_params)
        ours["model"]["dtype"] = "float32"
        name = next(iter(ours["model"]["modalities"]))
        self.num_videos, time = self.arrays[f"inputs/{name}"].shape[:2]
        # A model without a pyramid does not know its number of frames.
        if ours["data"].setdefault("num_frames", time) != time:
            raise ValueError(f"inputs of {time} frames for a config of {ours['data']['num_frames']}")
        if ours["model"]["text"].get("encoder") != "embeddings":
            return from_mapping(ours)
        ours["model"]["text"]["embeddings_file"] = "inputs of the golden"
        if ours["task"] != "moment_retrieval":
            return from_mapping(ours)
        self.note(EMBEDDINGS_NOTE)
        allowed = from_mapping(ours | {"task": "temporal_action_localization"})
        return dataclasses.replace(allowed, task="moment_retrieval")

    def _task(self) -> Task:
        classes = [str(i) for i in range(self.arrays["batch/label"].shape[-1])]
        return make_task(self.config, DatasetMetadata("golden", 1.0, 1, classes, [], "golden"))

    @property
    def is_moment_retrieval(self) -> bool:
        return self.config.task == "moment_retrieval"

    @property
    def is_segmentation(self) -> bool:
        return self.config.task == "action_segmentation"

    @functools.cached_property
    def point_mask(self) -> np.ndarray:
        """bool [B, P]."""
        time = self.config.data.num_frames
        given = self.arrays.get("inputs/input_mask")
        if given is None:
            return self.task.model.config.geometry(time).point_mask(np.ones((self.num_videos, time), bool))
        mask = given.astype(bool)
        expected = self.config.model.geometry(time).point_mask(mask[:, :time])
        if not np.array_equal(mask, expected):
            raise ValueError("inputs/input_mask: levels above the first are not masked as their frames are")
        return mask

    @property
    def frame_mask(self) -> np.ndarray:
        return self.point_mask[:, : self.config.data.num_frames]

    @functools.cached_property
    def _text_inputs(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Tokens or embeddings [B or 1, N, …], and the mask of tokens [B or 1, N, L]."""
        if self.is_moment_retrieval:
            key = "caption"
            shaped = lambda x: x.reshape(1, -1, x.shape[-1])
        elif self.config.task == "highlight_detection":
            key = self.meta["config"]["model"]["text_tower_config"].get("input_key", "video_title")
            shaped = lambda x: x[:, None]
        else:
            key = "class_names"
            shaped = lambda x: x[:1]
        if f"inputs/{key}" in self.arrays:
            return shaped(self.arrays[f"inputs/{key}"]), None
        tokens, mask = self.arrays[f"inputs/{key}/input_word_ids"], self.arrays[f"inputs/{key}/input_mask"]
        return shaped(tokens), shaped(mask).astype(bool)

    def forward(self, params: Params) -> Forward:
        inputs = {name: self.arrays[f"inputs/{name}"] for name in self.config.model.modalities}
        texts, mask = self._text_inputs
        video = self.task.apply(params, UnLoc.encode_video, inputs)
        text = self._with_mask(self.task.apply(params, UnLoc.encode_text, texts), mask)
        return Forward(video, text, self.task.apply(params, UnLoc.localize, video, self.frame_mask, text))

    def _with_mask(self, text: TextFeatures, mask: np.ndarray | None) -> TextFeatures:
        """The golden's own mask of word pieces; ours is all up to the end token."""
        if mask is None or not (
            self.config.model.fusion.all_text_tokens or self.config.model.text.pooling == "mean"
        ):
            return text
        if self.config.model.text.pooling == "mean":
            weights = mask[..., None] / mask.sum(-1)[..., None, None]
            text = dataclasses.replace(text, sentence=(text.tokens * weights).sum(-2))
        tokens = self._text_inputs[0]
        if not np.array_equal(mask, np.arange(tokens.shape[-1]) <= tokens.argmax(-1)[..., None]):
            self.note("word pieces are masked as in the golden, not up to the end token")
        return dataclasses.replace(text, mask=jnp.asarray(mask))

    def note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    # Losses.

    def own_pairs(self, localization: Localization) -> Localization:
        """Of moment retrieval's pairs those that the loss compares: with negatives = "own" a video's own queries."""
        if not self.is_moment_retrieval or self.config.loss.negatives == "batch":
            return localization
        own = lambda x: x.reshape(self.num_videos, self.num_videos, -1, *x.shape[2:])[
            jnp.arange(self.num_videos), jnp.arange(self.num_videos)
        ]
        return jax.tree.map(own, localization)

    @functools.cached_property
    def targets(self) -> Targets:
        """The golden's random targets as ours, [B, N, P]."""
        label = self.arrays["batch/label"].astype(np.float32)
        if self.is_moment_retrieval:
            own = Targets(label[..., 0], self.arrays["batch/displacements"])
            return own if self.config.loss.negatives == "own" else Targets(*map(_among_all, own))
        relevance = np.moveaxis(label, -1, 1)
        if self.is_segmentation:
            return Targets(relevance, np.zeros((*relevance.shape, 2), np.float32))
        offsets = self.arrays["batch/displacements"]
        offsets = offsets[:, None] if offsets.ndim == 3 else np.moveaxis(offsets, 2, 1)
        return Targets(relevance, np.broadcast_to(offsets, (*relevance.shape, 2)))

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """The reference's, float32 [B, N, P]; its segmentation has no axis of texts."""
        points = self.point_mask.astype(np.float32)
        videos = self.arrays["batch/batch_mask"]
        if not self.is_moment_retrieval:
            return np.broadcast_to((videos[:, None] * points)[:, None], self.targets.relevance.shape)
        captions = self.arrays["inputs/caption_mask"].astype(np.float32)
        of_own = videos[:, None, None] * captions[..., None] * points[:, None]  # [B, Q, P]
        if self.config.loss.negatives == "own":
            return of_own
        right = videos[:, None, None] * (videos[:, None] * captions).reshape(1, -1, 1) * points[:, None]
        weights = videos[:, None, None] * of_own.reshape(1, -1, of_own.shape[-1])
        if not np.array_equal(weights, right):
            self.note(GATHER_NOTE)
        return weights

    def loss(self, params: Params) -> tuple[jax.Array, Forward]:
        forward = self.forward(params)
        loss, _ = self.task.losses(self.own_pairs(forward.all_pairs), self.targets, self.weights)
        return loss, forward

    def metrics(self, localization: Localization) -> dict[str, tuple[float, float]]:
        """The reference's metrics (sum, normaliser) that come from losses; without label smoothing."""
        config, weights, targets = self.config.loss, self.weights, self.targets
        localization = self.own_pairs(localization)
        relevance = localization.relevance
        elementwise = relevance_loss(
            relevance, targets.relevance, config.relevance, alpha=config.focal_alpha, gamma=config.focal_gamma
        )
        count = weights.sum() if self.is_moment_retrieval else weights[:, 0].sum()
        found = {f"{config.relevance}_classification_loss": ((elementwise * weights).sum(), count)}
        if self.is_moment_retrieval:
            right = (relevance >= 0) == (targets.relevance > 0)
            found["accuracy"] = ((right * weights).sum(), count)
        else:
            right = _best_text_is_right(relevance, targets.relevance)
            name = "frame_accuracy" if self.is_segmentation else "precision@1"
            found[name] = ((right * weights[:, 0]).sum(), count)
        if self.is_segmentation:
            return {key: (float(a), float(b)) for key, (a, b) in found.items()}
        inside = targets.relevance * weights
        positive = inside.sum() if self.is_moment_retrieval else (inside.max(1) > 0).sum()
        found["mean_iou"] = ((offsets_iou(localization.offsets, targets.offsets) * inside).sum(), positive)
        for _, term in parse_boundary_loss(config.boundaries):
            name = {"center": "center_offset_squared"}.get(term, term)
            values = boundary_loss(term, localization.offsets, targets.offsets)
            found[f"{name}_loss"] = ((values * inside).sum(), positive)
        return {key: (float(a), float(b)) for key, (a, b) in found.items()}

    def in_their_layout(self, localization: Localization, shape: tuple[int, ...]) -> np.ndarray:
        """[B, P, C*3], [B, P, C+2], [B, B*Q, P, 3] or [B, T, C]."""
        relevance = np.asarray(localization.relevance)
        if self.is_segmentation:
            return np.moveaxis(relevance, 1, 2).reshape(shape)
        offsets = np.asarray(localization.offsets)
        if self.is_moment_retrieval:
            return np.concatenate([relevance[..., None], offsets], axis=-1)
        if self.config.model.head.offsets_per_text:
            logits = np.concatenate([relevance[..., None], offsets], axis=-1)
            return np.swapaxes(logits, 1, 2).reshape(*logits.shape[::2][:2], -1)
        return np.concatenate([np.swapaxes(relevance, 1, 2), offsets[:, 0]], axis=-1)

    @contextlib.contextmanager
    def reference_defects(self) -> Iterator[None]:
        """Patches the product where the reference differs, while the two are compared."""
        with contextlib.ExitStack() as stack:
            if self.config.loss.label_smoothing:
                classes = 1 if self.is_moment_retrieval else self.targets.relevance.shape[1]
                smooth = lambda targets, amount: targets * (1.0 - amount) + amount / classes
                stack.enter_context(mock.patch("unloc_jax.tasks.localization_task.smooth_labels", smooth))
                self.note(SMOOTHING_NOTE)
            model = self.config.model
            convolves = model.pyramid.type != "none" or model.head.type == "conv"
            if convolves and not self.point_mask.all():
                stack.enter_context(reference_padding())
                self.note(PADDING_NOTE)
            pyramid = self.config.model.pyramid
            if pyramid.type == "fpn" and pyramid.downsampling == "subsample":
                subsample = reference_subsample(self.config.data.num_frames)
                stack.enter_context(mock.patch("unloc_jax.model.pyramid.subsample", subsample))
                if pyramid.num_levels > 2:
                    self.note(SUBSAMPLE_NOTE)
            yield


def reference_padding() -> contextlib.AbstractContextManager[Any]:
    """The reference masks attention only: to its pyramids and heads all frames are real."""
    fill_up = padding.fill_up
    all_real = lambda x, mask, stride=1: fill_up(x, None, stride)
    return mock.patch("unloc_jax.model.padding.fill_up", all_real)


def reference_subsample(num_frames: int) -> Callable[[jax.Array, int], jax.Array]:
    """The reference's way from a level of a pyramid over so many frames to the next."""

    def subsample(x: jax.Array, stride: int) -> jax.Array:
        step = stride * num_frames // x.shape[1]  # in frames
        return x[:, np.arange(0, num_frames, step)]  # jax takes the last token for what lies past the end

    return subsample


def _best_text_is_right(relevance: jax.Array, label: np.ndarray) -> jax.Array:
    """bool [B, P] of logits and labels [B, N, P]: the best text is one of the point's, or rightly none is found."""
    if label.shape[1] == 1:
        return (relevance[:, 0] >= 0) == (label[:, 0] > 0)
    right = jnp.take_along_axis(jnp.asarray(label), relevance.argmax(1)[:, None], axis=1)[:, 0] > 0
    return jnp.where(relevance.max(1) > 0, right, label.sum(1) == 0)


def _among_all(own: np.ndarray) -> np.ndarray:
    """[B, Q, …] → [B, B·Q, …]: zeros except for a video's own queries."""
    videos = np.arange(len(own))
    everything = np.zeros((len(own), *own.shape), own.dtype)
    everything[videos, videos] = own
    return everything.reshape(len(own), -1, *own.shape[2:])
