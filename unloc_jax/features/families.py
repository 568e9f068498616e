"""The families of encoders: whose a source is, and how it is opened. A new one is a file and a line of `FAMILIES`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.errors import UserError
from unloc_jax.features.clap_encoder import ClapEncoder
from unloc_jax.features.clip_encoder import ClipEncoder
from unloc_jax.features.encoder import Encoder
from unloc_jax.features.picture_encoder import PictureTextEncoder
from unloc_jax.features.videoprism_encoder import VideoPrismEncoder
from unloc_jax.pretrained import clap, clip_source
from unloc_jax.pretrained.pe_core import PE_CORE
from unloc_jax.pretrained.picture_text import PictureTextFamily, read_picture_text
from unloc_jax.pretrained.siglip import SIGLIP_2
from unloc_jax.pretrained.videoprism import KIND, read_videoprism


@dataclasses.dataclass(frozen=True)
class Family:
    """Encoders that are read and run in the same way.

    Attributes:
      title: in messages.
      modality: of their features in shards, unless a build names them otherwise.
      kinds: prefixes of a source, as in "hf-clip:FOLDER".
      open: reads a source, with its prefix if it has one; arguments (source, dtype, batch_size,
        vocabulary of its texts or None).
      hears: they read sound, also of files without a picture.
    """

    title: str
    modality: str
    kinds: tuple[str, ...]
    open: Callable[[str, DTypeLike, int, str | None], Encoder]
    hears: bool = False


def _open_clip(source: str, dtype: DTypeLike, batch_size: int, vocabulary: str | None) -> Encoder:
    if vocabulary is not None:
        raise UserError(f"--tokenizer={vocabulary}: {source} is a CLIP, which brings its own vocabulary.")
    return ClipEncoder(clip_source.read_any_clip(source), dtype, batch_size)


def _open_videoprism(source: str, dtype: DTypeLike, batch_size: int, vocabulary: str | None) -> Encoder:
    weights = read_videoprism(source.removeprefix(f"{KIND}:"), vocabulary=vocabulary)
    return VideoPrismEncoder(weights, dtype, batch_size)


def _open_clap(source: str, dtype: DTypeLike, batch_size: int, vocabulary: str | None) -> Encoder:
    weights = clap.read_clap(source.removeprefix(f"{clap.KIND}:"), vocabulary)
    return ClapEncoder(weights, dtype, batch_size)


def of_pictures_and_texts(family: PictureTextFamily) -> Family:
    """Returns the family that a description in `pretrained` is of."""

    def open_one(source: str, dtype: DTypeLike, batch_size: int, vocabulary: str | None) -> Encoder:
        weights = read_picture_text(family, source.removeprefix(f"{family.kind}:"), vocabulary=vocabulary)
        return PictureTextEncoder(weights, dtype, batch_size)

    return Family(family.title, family.kind, (family.kind,), open_one)


CLIP = Family("CLIP", "clip", clip_source.KINDS, _open_clip)
VIDEOPRISM = Family("VideoPrism", "videoprism", (KIND,), _open_videoprism)
FAMILIES = (
    CLIP,
    VIDEOPRISM,
    of_pictures_and_texts(SIGLIP_2),
    of_pictures_and_texts(PE_CORE),
    Family(clap.TITLE, clap.KIND, (clap.KIND,), _open_clap, hears=True),
)


def _named_family(source: str) -> Family | None:
    kind, separator, _ = source.partition(":")
    return next((family for family in FAMILIES if separator and kind in family.kinds), None)


def family_of(source: str) -> Family:
    """Returns the family that a source's prefix names; CLIP for a source without one."""
    return _named_family(source) or CLIP


def names_family(source: str) -> bool:
    """Returns whether a source begins with a prefix of some family."""
    return _named_family(source) is not None


def absolute(source: str) -> str:
    """Makes a source valid from any working directory."""
    kind, place = source.split(":", 1) if names_family(source) else ("", source)
    place = str(Path(place).resolve()) if Path(place).exists() else place
    return f"{kind}:{place}" if kind else place


def open_encoder(
    source: str, dtype: DTypeLike = jnp.float32, batch_size: int = 32, vocabulary: str | None = None
) -> Encoder:
    """Opens an encoder of any family.

    Args:
      source: "KIND:SRC", or a CLIP as `read_any_clip` takes it.
      dtype, batch_size: see `Encoder`.
      vocabulary: file of the texts' vocabulary, for families that do not bring their own; None = beside the weights.

    Raises:
      UserError: there is nothing that can be read.
    """
    kind, separator, _ = source.partition(":")
    if separator and not names_family(source) and not Path(source).exists():
        kinds = ", ".join(kind for family in FAMILIES for kind in family.kinds)
        raise UserError(
            f"{source} is not a CLIP, and {kind} is no kind of encoder: KIND:SRC has one of {kinds}."
        )
    return family_of(source).open(source, dtype, batch_size, vocabulary)
