"""Texts → features, by a checkpoint's text tower; those of its vocabulary are cached beside it."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError
from tqdm.auto import tqdm

from unloc_jax.inference.loaded_model import LoadedModel
from unloc_jax.model.clip import TextFeatures
from unloc_jax.whole_writes import replacing

_AT_ONCE = 64  # texts, each in all its prompts
_VERSION = "1"


class TextEncoder:
    """Encodes texts with one model.

    The features of the checkpoint's vocabulary are cached in `vocabulary.TASK.safetensors` in the step's directory. The
    file is written on first use if the directory is writable. Its fingerprint covers classes, prompts, the text
    tower's parameters, precision and kind of device, its checksum the features: a file of another model, and a damaged
    one, is never read, but replaced.

    Args:
      model: a loaded checkpoint.
    """

    def __init__(self, model: LoadedModel):
        self._model = model
        self._encode = jax.jit(model.task.encode_texts)
        self._vocabulary: TextFeatures | None = None

    def __call__(self, texts: Sequence[str]) -> TextFeatures:
        """Encodes N texts → NumPy features [1, N, R, …], in each of the R prompts of the task."""
        task = self._model.task
        if task.config.with_vocabulary and list(texts) == list(task.evaluation_classes):
            if self._vocabulary is None:
                self._vocabulary = self._of_vocabulary()
            return self._vocabulary
        return self._of_texts(texts)

    def _of_texts(self, texts: Sequence[str]) -> TextFeatures:
        encoded = self._model.task.encoding(texts)
        at_once = min(_AT_ONCE, 1 << (len(texts) - 1).bit_length())  # few sizes, so that few are compiled
        made = []
        starts = range(0, len(texts), at_once)
        bar = tqdm(
            starts, "encoding texts", unit="batch", file=sys.stderr, leave=False, disable=len(starts) < 2
        )
        for start in bar:
            chunk = encoded[start : start + at_once]
            size = len(chunk)
            filled = np.concatenate([chunk, *[chunk[-1:]] * (at_once - size)])
            features = jax.device_get(self._encode(self._model.params, filled[None]))
            made.append(jax.tree.map(lambda x, size=size: x[:, :size], features))
        return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *made)

    def _of_vocabulary(self) -> TextFeatures:
        model = self._model
        own = list(model.metadata.unseen_classes or model.metadata.classes)
        given = model.task.config.model.text.encoder == "embeddings"
        if given or list(model.task.evaluation_classes) != own:
            return self._of_texts(model.task.evaluation_classes)
        file = vocabulary_file(model)
        fingerprint = _fingerprint(model)
        kept = _read(file, fingerprint)
        if kept is None:
            kept = self._of_texts(own)
            _write(file, kept, fingerprint, {"classes": own, "prompts": list(model.task.encoding.prompts)})
        # Kept in float32, which holds bfloat16 exactly.
        dtype = model.task.model.dtype
        return TextFeatures(kept.tokens.astype(dtype), kept.mask, kept.sentence.astype(dtype))


def vocabulary_file(model: LoadedModel) -> Path:
    """Returns the file that caches the features of a checkpoint's vocabulary."""
    return model.step_dir / f"vocabulary.{model.task_name}.safetensors"


def _fingerprint(model: LoadedModel) -> str:
    """Returns a hash of everything that the features depend on."""
    task = model.task
    told = {
        "version": _VERSION,
        "classes": task.evaluation_classes,
        "prompts": task.encoding.prompts,
        "max_tokens": task.encoding.max_tokens,
        "dtype": str(np.dtype(task.model.dtype)),
        "device": jax.default_backend(),
        "text": repr(dataclasses.replace(task.config.model.text, sentencepiece="")),
        "videoprism": repr(task.config.model.videoprism),
        "tokens": task.encoding.tokens.fingerprint(),
        "all_text_tokens": task.config.model.fusion.all_text_tokens,
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    of_texts = {name: tree for name, tree in model.params.items() if name.startswith("text_")}
    for path, leaf in jax.tree_util.tree_leaves_with_path(of_texts):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).view(np.uint8).data)
    return digest.hexdigest()


def _read(file: Path, fingerprint: str) -> TextFeatures | None:
    """Returns the cached features, or None if there are none, or they are damaged or another model's."""
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            told = opened.metadata() or {}
            if told.get("fingerprint") != fingerprint:
                return None
            arrays = {name: opened.get_tensor(name) for name in ("tokens", "mask", "sentence")}
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):  # a damaged header may name any type
        return None
    return TextFeatures(**arrays) if told.get("checksum") == _checksum(arrays) else None


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns a hash of the arrays' names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(file: Path, features: TextFeatures, fingerprint: str, told: dict[str, Any]) -> None:
    """Replaces the file atomically: other processes read the old one or the new one. Does nothing if not writable."""
    arrays = {
        "tokens": np.ascontiguousarray(features.tokens, np.float32),
        "mask": np.ascontiguousarray(features.mask),
        "sentence": np.ascontiguousarray(features.sentence, np.float32),
    }
    metadata = {"fingerprint": fingerprint, "checksum": _checksum(arrays)} | {
        key: json.dumps(value) for key, value in told.items()
    }
    content = safetensors.numpy.save(arrays, metadata)
    with contextlib.suppress(OSError), replacing(file) as opened:
        opened.write(content)
