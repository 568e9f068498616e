"""`load`: the one entry point to everything that finds texts in videos."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import absl.logging

from unloc_jax.errors import UserError
from unloc_jax.features.families import family_of, names_family, open_encoder
from unloc_jax.inference.loaded_model import load_model
from unloc_jax.inference.localizer import Localizer
from unloc_jax.inference.zeroshot import ZeroShotLocalizer
from unloc_jax.pretrained.clip_files import is_hub_id
from unloc_jax.pretrained.clip_source import kind_of


def load(
    source: str | Path,
    task: str | None = None,
    *,
    clip: str | None = None,
    tokenizer: str | None = None,
) -> Localizer | ZeroShotLocalizer:
    """Loads a model that finds texts in videos; nothing else is needed to use it.

    >>> import unloc_jax
    >>> localizer = unloc_jax.load("RUN")
    >>> prediction = localizer("video.mp4", ["a red circle moves to the left"])
    >>> prediction[0].text, len(prediction[0].segments) > 0
    ('a red circle moves to the left', True)
    >>> unloc_jax.load("nowhere")
    Traceback (most recent call last):
    unloc_jax.errors.UserError: nowhere is neither a folder nor an id of the Hugging Face hub.

    Args:
      source: a workdir of `unloc train`, one of its steps, or an id of the Hugging Face hub ("org/name" or
        "org/name@revision") that holds one of these: a `Localizer`. Or a CLIP: a folder that `unloc import` wrote,
        "KIND:SRC" as config.init_from takes it, or an id of the hub; or "siglip2:SRC", "pe:SRC", "videoprism:SRC",
        "clap:SRC": a `ZeroShotLocalizer`.
      task: which task of a checkpoint with several; None = the first.
      clip: location of the encoder of a model that was trained on features; see `Localizer`.
      tokenizer: vocabulary of a SigLIP 2, CLAP or VideoPrism, a file or an id of the hub; None = beside the weights.

    Raises:
      UserError: nothing that could be loaded is there, or it has no such task.
    """
    folder = Path(source)
    holds_checkpoint = (folder / "checkpoints").is_dir() or (folder / "metadata").is_dir()
    if names_family(str(source)) or (not holds_checkpoint and kind_of(str(source))):
        return _zero_shot(str(source), task, clip, tokenizer)
    if tokenizer is not None:
        raise UserError(
            f"tokenizer={tokenizer!r} is for a SigLIP 2, a CLAP or a VideoPrism, which {source} is not."
        )
    if not folder.exists():
        if not is_hub_id(str(source)):
            raise UserError(f"{source} is neither a folder nor an id of the Hugging Face hub.")
        folder = _from_hub(str(source))
    with _without_notices():
        return Localizer(load_model(folder, task), clip=clip)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Silences Orbax's warning about a file that checkpoints of its manager lack; no user can act on it."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _zero_shot(source: str, task: str | None, given: str | None, tokenizer: str | None) -> ZeroShotLocalizer:
    encoder, title = open_encoder(source, vocabulary=tokenizer), family_of(source).title
    if given is not None:
        raise UserError(f"{encoder.source} is a {title} itself: leave out clip={given!r}.")
    if task is not None:
        raise UserError(f"{encoder.source} is a {title}, which has no tasks: leave out task={task!r}.")
    return ZeroShotLocalizer(encoder)


def _from_hub(source: str) -> Path:
    """Returns the folder of a repository, from the cache or the network, as huggingface_hub is configured."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    repository, _, revision = source.partition("@")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None))
    except errors.LocalEntryNotFoundError as error:
        reason = "it is not in the cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"
        raise _unavailable(source, reason) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise _unavailable(source, str(error).strip().splitlines()[0][:200].rstrip(".")) from error


def _unavailable(source: str, reason: str) -> UserError:
    return UserError(
        f"{source} is not a folder here, and from the Hugging Face hub it cannot be had: {reason}. Download it where "
        "there is a network, or give a local folder."
    )
