"""Goldens of single modules: heads, encoders and the video tower, composed of ours where the reference has one.

Their loss is Σ cos(0.3·i) · output_i over the outputs in their order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tests.golden_checks.imported import SUBSAMPLE_NOTE, reference_padding, reference_subsample
from tests.golden_checks.numbers import (
    GRADIENTS,
    LOGITS,
    LOSS,
    logits_difference,
    projected_difference,
    relative,
)
from tests.golden_checks.result import Result
from unloc_jax.config import HeadConfig, ImageTowerConfig, ModelConfig, TextTowerConfig, from_mapping
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model.clip import ImageTower, TextTower
from unloc_jax.model.fusion import PairEncoder
from unloc_jax.model.heads import LocalizationHead
from unloc_jax.model.transformer import Transformer
from unloc_jax.pretrained.scenic_unloc import (
    Leaf,
    Params,
    dense_leaves,
    fill,
    fusion_leaves,
    head_leaves,
    image_tower_leaves,
    read_back,
    text_tower_leaves,
)

Arguments = dict[str, np.ndarray]  # "arg0", "arg1", … by position, "arg0/KEY" of a dictionary

OUT_FEATURES_NOTE = (
    "with out_features the reference's tower returns feature 0 of every frame: the check does the same"
)
PADDING_NOTE = "padding, which nothing real sees, sees what it sees in the reference"
NO_OPTION_NOTE = "composed in the check: the product scores videos by the fused text token instead"


class Ours(NamedTuple):
    """The counterpart of a module of the reference.

    table: of its parameters' names. shapes: of ours, by path. run: (params, arguments) → output in their layout.
    """

    table: list[Leaf]
    shapes: dict[tuple, tuple]
    run: Callable[[Params, Arguments], jax.Array]
    notes: tuple[str, ...] = ()


def check(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Result:
    """Compares one module's output, loss and gradients."""
    kind, fields = meta["config"]["module"], meta["config"]["fields"]
    if kind not in _MODULES:
        raise ValueError(f"there is no module like the reference's {kind}")
    reference = {k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")}
    reference.pop("cls", None)  # the reference makes it and does not use it
    arguments = {k.removeprefix("inputs/"): v for k, v in arrays.items() if k.startswith("inputs/")}
    theirs = arrays["out/logits"]
    ours = _MODULES[kind](fields, arguments, theirs)
    params = fill(ours.table, reference, ours.shapes)

    def loss_of(params: Params) -> tuple[jax.Array, jax.Array]:
        output = ours.run(params, arguments)
        return (output.ravel() * jnp.cos(0.3 * jnp.arange(output.size))).sum(), output

    (loss, output), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params)
    outputs = logits_difference(np.asarray(output), theirs)
    # The weights of the sum differ in sign: what is left of it does not show how large its terms are.
    losses = abs(float(loss) - float(arrays["out/loss"])) / max(1.0, float(np.abs(theirs).sum()))
    losses = min(losses, relative(loss, float(arrays["out/loss"])))
    apart = projected_difference(
        read_back(ours.table, gradients), arrays, "grad", float(arrays["grad/global_norm"])
    )
    passed = outputs <= LOGITS and losses <= LOSS and apart <= GRADIENTS
    return Result(name, outputs, losses, apart, passed, "; ".join(ours.notes))


def _shapes(module: nn.Module, *arguments: Any, method: Any = None) -> dict[tuple, tuple]:
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, method=method))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables["params"]).items()}


# Heads.


def _geometry(pyramid: dict[str, Any] | None, points: int) -> PyramidGeometry:
    if pyramid is None:
        return PyramidGeometry(points, 1, 2, ((0.0, np.inf),))
    levels = len(pyramid["feature_pyramid_levels"])
    stride = pyramid["feature_pyramid_downsample_stride"]
    return PyramidGeometry(pyramid["num_features_level0"], levels, stride, ((0.0, np.inf),) * levels)


def _localization_head(fields: dict[str, Any], arguments: Arguments, theirs: np.ndarray) -> Ours:
    """LocalizationHead on [B, P, D] with a closed vocabulary, or the query dependent one on [B, N, P, D]."""
    tokens = arguments["arg0"]
    num_classes = fields.get("num_classes", 1) if tokens.ndim == 3 else 1
    config = HeadConfig(
        num_conv_layers=fields["num_conv_layers"],
        kernel_size=fields["kernel_size"],
        shared_levels=fields.get("weight_sharing", False),
        offsets_per_text=fields.get("output_per_class_displacements", True),
        distances=fields.get("distance_normalizer", "relu"),
    )
    geometry = _geometry(fields.get("feature_pyramid_config"), tokens.shape[-2])
    head = LocalizationHead(geometry, config, num_classes)
    pairs = tokens[:, None] if tokens.ndim == 3 else tokens

    def both(head: LocalizationHead, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_offsets = x if config.offsets_per_text else x.mean(1, keepdims=True)
        return head.predict_relevance(x), head.predict_offsets(of_offsets)

    def run(params: Params, arguments: Arguments) -> jax.Array:
        relevance, offsets = head.apply({"params": params}, pairs, method=both)
        if theirs.ndim == 4:  # moment retrieval
            return jnp.concatenate([relevance[..., None], offsets], axis=-1)
        if not config.offsets_per_text:
            return jnp.concatenate([jnp.swapaxes(relevance, 1, 2), offsets[:, 0]], axis=-1)
        logits = jnp.concatenate([relevance[..., None], offsets], axis=-1)
        return jnp.swapaxes(logits, 1, 2).reshape(len(logits), logits.shape[2], -1)

    table = list(head_leaves(config, geometry.num_levels, "", ()))
    return Ours(table, _shapes(head, pairs, method=both), run)


def _linear_head(fields: dict[str, Any], arguments: Arguments, theirs: np.ndarray) -> Ours:
    tokens = arguments["arg0"]
    num_outputs = fields.get("output_dim", 1)
    head = LocalizationHead(_geometry(None, tokens.shape[-2]), HeadConfig(type="linear"), num_outputs)
    pairs = tokens.reshape(-1, 1, *tokens.shape[-2:])

    def run(params: Params, arguments: Arguments) -> jax.Array:
        scores = head.apply({"params": params}, pairs, method="score")  # [M, outputs, P]
        return jnp.moveaxis(scores, 1, -1).reshape(theirs.shape)

    table = list(head_leaves(HeadConfig(type="linear"), 1, "", ()))
    return Ours(table, _shapes(head, pairs, method="score"), run)


# Encoders.


def _encoder_config(fields: dict[str, Any], kind: str, width: int) -> ModelConfig:
    pyramid: dict[str, Any] = {"type": kind}
    if kind != "none":
        given = fields["feature_pyramid_config"]
        pyramid |= {
            "num_levels": len(given["feature_pyramid_levels"]),
            "stride": given["feature_pyramid_downsample_stride"],
        }
        if kind == "fpn":
            pyramid |= {
                "layers": given["feature_pyramid_levels"],
                "downsampling": fields.get("downsample_strategy", "max_pool"),
            }
    fusion = {
        "width": width,
        "num_layers": fields["num_layers"],
        "num_heads": fields["num_heads"],
        "mlp_dim": fields["mlp_dim"],
        "positions": fields.get("positional_embedding", "learned"),
        "positions_max_length": fields.get("positional_embedding_max_length"),
    }
    return from_mapping({"model": {"fusion": fusion, "pyramid": pyramid}}).model


def _encoder(kind: str) -> Callable[[dict[str, Any], Arguments, np.ndarray], Ours]:
    """The reference's encoders: [M, T + L, D], mask [M, …] or nothing → points, then the text tokens."""

    def make(fields: dict[str, Any], arguments: Arguments, theirs: np.ndarray) -> Ours:
        del theirs
        tokens = arguments["arg0"]
        config = _encoder_config(fields, kind, tokens.shape[-1])
        time = tokens.shape[1] if kind == "none" else fields["feature_pyramid_config"]["num_features_level0"]
        geometry = config.geometry(time)
        mask = np.ones(tokens.shape[:2], bool)
        all_masks = arguments.get("arg1", arguments.get("input_mask"))
        if all_masks is not None:
            mask = all_masks[:, : tokens.shape[1]].astype(bool)
            levels = geometry.split_levels(geometry.point_mask(mask[:, :time]), axis=1)
            expected = np.concatenate([x for level in levels for x in (level, mask[:, time:])], axis=1)
            if not np.array_equal(all_masks.astype(bool), expected):
                raise ValueError("levels above the first are not masked as their frames are")
        module = PairEncoder(config.fusion, config.pyramid, config.pyramid_layers, geometry)
        given = (tokens[:, :time], mask[:, :time], tokens[:, time:], mask[:, time:])
        subsamples = kind == "fpn" and config.pyramid.downsampling == "subsample"

        def run(params: Params, arguments: Arguments) -> jax.Array:
            subsample = mock.patch("unloc_jax.model.pyramid.subsample", reference_subsample(time))
            with subsample, reference_padding():
                return jnp.concatenate(module.apply({"params": params}, *given), axis=1)

        notes = (SUBSAMPLE_NOTE,) if subsamples else ()
        return Ours(list(fusion_leaves(config, "", ())), _shapes(module, *given), run, notes)

    return make


def _text_encoder(fields: dict[str, Any], arguments: Arguments, theirs: np.ndarray) -> Ours:
    del theirs
    tokens = arguments["arg0/input_word_ids"]
    config = TextTowerConfig(
        width=fields["hidden_size"],
        num_layers=fields["num_layers"],
        num_heads=fields["num_heads"],
        max_tokens=tokens.shape[-1],
        vocabulary_size=fields["vocab_size"],
    )
    tower, real = TextTower(config), tokens > 0
    mask = real[:, :, None] & real[:, None] & np.tril(np.ones(tokens.shape[-1:] * 2, bool))
    masked = lambda *settings, **named: lambda x, _: Transformer(*settings, **named)(x, mask)

    def run(params: Params, arguments: Arguments) -> jax.Array:
        with mock.patch("unloc_jax.model.clip.Transformer", masked):
            return tower.apply({"params": params}, tokens).tokens

    notes = () if real.all() else (PADDING_NOTE,)
    return Ours(list(text_tower_leaves(config, "", ())), _shapes(tower, tokens), run, notes)


class VideoTower(nn.Module):
    """The reference's ClipVideoTower, of our parts: frames → tokens, one token per video, or class scores."""

    image: ImageTowerConfig
    fields: Any
    temporal: ModelConfig | None

    @nn.compact
    def __call__(self, frames: jax.Array) -> jax.Array:
        fields = self.fields
        tokens = ImageTower(self.image, name="image")(frames)
        out_features = fields["image_encoder_config"].get("out_features")
        if out_features:
            tokens = nn.Dense(out_features, use_bias=False, name="features")(tokens)[..., 0]
        endpoint = fields.get("final_endpoint", "logits")
        if endpoint == "temporal_tokens":
            return tokens
        if self.temporal is None:
            x = tokens.mean(1)
        else:
            config, time = self.temporal, tokens.shape[1]
            encoder = PairEncoder(config.fusion, config.pyramid, (), config.geometry(time), name="temporal")
            nothing = jnp.zeros((len(tokens), 0, tokens.shape[-1])), jnp.zeros((len(tokens), 0), bool)
            x, _ = encoder(tokens, jnp.ones(tokens.shape[:2], bool), *nothing)
            pool = {"gap": jnp.mean, "gmp": jnp.max, "gsp": jnp.sum}.get(fields.get("classifier", "token"))
            x = x[:, 0] if pool is None else pool(x, axis=1)
        if fields.get("representation_size"):
            x = jnp.tanh(nn.Dense(fields["representation_size"], name="representation")(x))
        return x if endpoint == "pre_logits" else nn.Dense(fields["num_classes"], name="output")(x)


def _video_tower(fields: dict[str, Any], arguments: Arguments, theirs: np.ndarray) -> Ours:
    del theirs
    settings = fields["image_encoder_config"]
    token = settings.get("classifier", "token") == "token"
    image = ImageTowerConfig(
        width=settings["features"],
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        patch_size=settings["patches"]["size"][0],
        pooling="token" if token else "mean",
        class_token_per_frame=token,
    )
    temporal = None
    table = list(image_tower_leaves(image, "", ("image",)))
    notes: tuple[str, ...] = ()
    if settings.get("out_features"):
        if not token:
            raise ValueError(
                "out_features without a class token takes the first patch, which is nothing of ours"
            )
        table += dense_leaves("VisionTransformer/proj", ("features",), bias=False)
        notes += (OUT_FEATURES_NOTE,)
    if fields.get("final_endpoint", "logits") != "temporal_tokens":
        notes += (NO_OPTION_NOTE,)
        if fields.get("temporal_encoder_config"):
            temporal = _encoder_config(fields["temporal_encoder_config"], "none", image.width)
            table += fusion_leaves(temporal, "TemporalTransformer", ("temporal",))
        if fields.get("representation_size"):
            table += dense_leaves("proj", ("representation",))
        if fields.get("final_endpoint", "logits") == "logits":
            table += dense_leaves("output_projection", ("output",))
    module = VideoTower(image, fields, temporal)
    run = lambda params, arguments: module.apply({"params": params}, arguments["arg0"])
    return Ours(table, _shapes(module, arguments["arg0"]), run, notes)


_MODULES: dict[str, Callable[[dict[str, Any], Arguments, np.ndarray], Ours]] = {
    "LocalizationHead": _localization_head,
    "QueryDependentLocalizationHead": _localization_head,
    "LinearHead": _linear_head,
    "ClipTextEncoder": _text_encoder,
    "TransformerEncoder": _encoder("none"),
    "FeaturePyramidEncoder": _encoder("fpn"),
    "SimplePyramidEncoder": _encoder("simple"),
    "ClipVideoTower": _video_tower,
}
