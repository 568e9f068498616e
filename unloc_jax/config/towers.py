"""What the program knows of a model's encoders without running them: `ENCODERS` has a line for each.

Their modules are in `unloc_jax.model.towers`, their weights in `unloc_jax.pretrained.encoders`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from unloc_jax.errors import UserError
from unloc_jax.piece_text import PieceTokens
from unloc_jax.sampling import window_starts
from unloc_jax.text import CLIP_TOKENS, Tokens

if TYPE_CHECKING:
    from unloc_jax.config.schema import ModelConfig


@dataclasses.dataclass(frozen=True)
class Stack:
    """Transformer layers that follow each other.

    Attributes:
      name: Of their parameters, from the tower's on.
      num_layers: Depth.
      sequences, length: Number of sequences in a video (or for a text: 1), and tokens of each.
    """

    name: str
    num_layers: int
    sequences: int
    length: int


@dataclasses.dataclass(frozen=True)
class Tower:
    """A tower over the T frames of a video, or over a text.

    Attributes:
      group: The settings that hold its sizes, config.model.GROUP.
      width, num_heads, mlp_dim: Of all its layers; `width` is also that of its output.
      stacks: From the input to the output.
      above: Number of layers above the other parameters, by the beginning of their names; the rest are below all.
      patch_size: Height and width of a patch in pixels; 0 = it reads no pixels.
      embedding: Products before the layers of a video, as (rows, numbers in each, outputs).
      parts: Equal parts of a video that devices can share, such as frames.
      part: What they are, for messages.
    """

    group: str
    width: int
    num_heads: int
    mlp_dim: int
    stacks: tuple[Stack, ...]
    above: Mapping[str, int]
    patch_size: int = 0
    embedding: tuple[tuple[int, int, int], ...] = ()
    parts: int = 1
    part: str = ""

    def layers_above(self, name: str) -> tuple[int, bool]:
        """Returns the number of layers above a parameter of the tower, and whether it stacks layers along axis 0.

        Those of a stacked parameter count from its last layer.
        """
        above = sum(stack.num_layers for stack in self.stacks)
        within = lambda beginning: name.startswith(f"{beginning}/") or name == beginning
        for stack in self.stacks:
            above -= stack.num_layers
            if within(f"{stack.name}/layers"):
                return above, True
        found = [count for beginning, count in self.above.items() if within(beginning)]
        return (found or [sum(stack.num_layers for stack in self.stacks)])[0], False


@dataclasses.dataclass(frozen=True)
class Encoder:
    """One line of `ENCODERS`.

    Attributes:
      video: (config, T, crop size) → its tower over the T places of a video, such as frames.
      text: config → its tower over texts; None if it has none.
      tokens: config → its tokenizer.
      check: Raises UserError for settings of the towers that do not go together.
      reads_vocabulary: Whether texts need the file config.model.text.sentencepiece, which checkpoints then hold.
    """

    video: Callable[["ModelConfig", int, int], Tower]
    text: Callable[["ModelConfig"], Tower] | None
    tokens: Callable[["ModelConfig"], Tokens] = lambda model: CLIP_TOKENS
    check: Callable[["ModelConfig"], None] = lambda model: None
    reads_vocabulary: bool = False


def _clip_video(model: "ModelConfig", num_frames: int, crop_size: int) -> Tower:
    image = model.image
    patches = (crop_size // image.patch_size) ** 2
    length = patches + (image.pooling == "token")
    values = 3 * image.patch_size**2 * image.temporal_kernel
    return Tower(
        "image",
        image.width,
        image.num_heads,
        4 * image.width,
        (Stack("transformer", image.num_layers, num_frames, length),),
        {"norm_out": 0},
        image.patch_size,
        ((num_frames * patches, values, image.width),),
        num_frames,
        "frames",
    )


def _clip_text(model: "ModelConfig") -> Tower:
    text = model.text
    stack = Stack("transformer", text.num_layers, 1, text.max_tokens)
    return Tower("text", text.width, text.num_heads, 4 * text.width, (stack,), {"norm_out": 0})


def _check_clip(model: "ModelConfig") -> None:
    if model.image.temporal_kernel % 2 == 0:
        raise UserError(f"config.model.image.temporal_kernel must be odd, got {model.image.temporal_kernel}.")


def _videoprism_video(model: "ModelConfig", num_frames: int, crop_size: int) -> Tower:
    sizes = model.videoprism
    window = sizes.window_of(num_frames)
    windows = len(window_starts(num_frames, window, sizes.overlap if window < num_frames else 0))
    patches = (crop_size // sizes["patch_size"]) ** 2
    auxiliary = sizes["auxiliary_layers"] if sizes.pooling == "attention" else 0
    temporal = sizes["temporal_layers"]
    stacks = (
        Stack("encoder/spatial", sizes["spatial_layers"], windows * window, patches),
        Stack("encoder/temporal", temporal, windows * patches, window),
        Stack("auxiliary", auxiliary, windows, window * patches),
    )
    above = {
        "encoder/spatial_norm": temporal + auxiliary,
        "encoder/temporal_position": temporal + auxiliary,
        "encoder/temporal_norm": auxiliary,
        "pooler": 0,
    }
    return Tower(
        "videoprism",
        sizes["width"],
        sizes["num_heads"],
        sizes["mlp_dim"],
        stacks,
        above,
        sizes["patch_size"],
        ((windows * window * patches, 3 * sizes["patch_size"] ** 2, sizes["width"]),),
        windows,
        f"windows of {window} frames",
    )


def _videoprism_text(model: "ModelConfig") -> Tower:
    sizes = model.videoprism
    stack = Stack("transformer", sizes["text_layers"], 1, model.text.max_tokens)
    return Tower(
        "videoprism", sizes["width"], sizes["num_heads"], sizes["text_mlp_dim"], (stack,), {"norm_out": 0}
    )


def _videoprism_tokens(model: "ModelConfig") -> Tokens:
    return PieceTokens(model.text.sentencepiece, model.videoprism["vocabulary_size"])


def _check_videoprism(model: "ModelConfig") -> None:
    sizes, window = model.videoprism, model.videoprism.window or model.videoprism["num_frames"]
    where = "config.model.videoprism"
    if sizes["width"] % sizes["num_heads"] or sizes["pooler_width"] % sizes["num_heads"]:
        raise UserError(
            f"{where}: num_heads = {sizes['num_heads']} must divide width = {sizes['width']} and pooler_width = "
            f"{sizes['pooler_width']}."
        )
    if sizes.overlap >= window:
        raise UserError(f"{where}.overlap = {sizes.overlap} must be below the window of {window} frames.")
    if sizes.logit_cap < 0:
        raise UserError(f"{where}.logit_cap must be at least 0, got {sizes.logit_cap:g}.")
    if model.text.encoder == "videoprism" and model.text.pooling != "end":
        raise UserError(
            f"config.model.text.pooling = {model.text.pooling!r}: VideoPrism's texts have a token of their own, 'end'."
        )


def _audio_video(model: "ModelConfig", num_frames: int, crop_size: int) -> Tower:
    audio, patches = model.audio, model.audio.num_patches
    return Tower(
        "audio",
        audio.width,
        audio.num_heads,
        audio.mlp_dim,
        (Stack("transformer", audio.num_layers, num_frames, patches),),
        {"norm_out": 0},
        embedding=((num_frames * patches, audio.patch_mels * audio.patch_frames, audio.width),),
        parts=num_frames,
        part="frames",
    )


def _check_audio(model: "ModelConfig") -> None:
    audio, where = model.audio, "config.model.audio"
    for name, modality in model.modalities.items():
        if modality.reads_sound and name != "audio":
            raise UserError(
                f"config.model.modalities.{name}: the modality that hears the sound of videos is called audio."
            )
    if not audio.hop_samples or audio.frame_samples < 2:
        raise UserError(
            f"{where}: frames of {audio.frame_s:g} s, {audio.hop_s:g} s apart, are shorter than samples at "
            f"sample_rate = {audio.sample_rate}."
        )
    lowest, highest = audio.band_hz
    if not lowest < highest <= audio.sample_rate / 2:
        raise UserError(
            f"{where}: bands from lowest_hz = {lowest:g} to highest_hz = {highest:g} do not lie below half of "
            f"sample_rate = {audio.sample_rate}."
        )
    if audio.num_mels % audio.patch_mels:
        raise UserError(
            f"{where}.num_mels = {audio.num_mels} is not divisible by patch_mels = {audio.patch_mels}."
        )
    if audio.num_frames < audio.patch_frames:
        raise UserError(
            f"{where}: the {audio.window_s:g} s of a place make {audio.num_frames} frames of the spectrogram, fewer "
            f"than patch_frames = {audio.patch_frames}. Make window_s longer, or hop_s or patch_frames smaller."
        )
    if audio.width % audio.num_heads:
        raise UserError(f"{where}.width = {audio.width} is not divisible by num_heads = {audio.num_heads}.")


ENCODERS: dict[str, Encoder] = {
    "clip": Encoder(_clip_video, _clip_text, check=_check_clip),
    "videoprism": Encoder(
        _videoprism_video, _videoprism_text, _videoprism_tokens, _check_videoprism, reads_vocabulary=True
    ),
    "audio": Encoder(_audio_video, None, check=_check_audio),
}


def video_tower(model: "ModelConfig", encoder: str, num_frames: int, crop_size: int) -> Tower | None:
    """Returns the tower over T frames, or places of sound, of an encoder of modalities; None if that reads features."""
    return ENCODERS[encoder].video(model, num_frames, crop_size) if encoder in ENCODERS else None


def text_tower(model: "ModelConfig") -> Tower | None:
    """Returns the model's tower over texts; None if it is given embeddings."""
    encoder = ENCODERS.get(model.text.encoder)
    return encoder.text(model) if encoder is not None and encoder.text is not None else None


def text_width(model: "ModelConfig") -> int:
    """Returns the width of encoded texts."""
    tower = text_tower(model)
    return tower.width if tower else model.text.width


def video_width(model: "ModelConfig", name: str) -> int:
    """Returns the width of a modality's frame tokens, before its projection."""
    modality = model.modalities[name]
    tower = video_tower(model, modality.encoder, 1, 0)
    return tower.width if tower else modality.feature_dim


def tokens_of(model: "ModelConfig") -> Tokens:
    """Returns what makes tokens of texts for the model's text tower; CLIP's where it is given embeddings."""
    return ENCODERS.get(model.text.encoder, ENCODERS["clip"]).tokens(model)


def vocabulary_file(model: "ModelConfig") -> str | None:
    """Returns the file that the model's texts are read with, "" if it is not given; None = they need none."""
    encoder = ENCODERS.get(model.text.encoder)
    return model.text.sentencepiece if encoder is not None and encoder.reads_vocabulary else None
