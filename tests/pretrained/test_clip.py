"""CLIPs of other programs: what they compute with the same weights, and files that are not what they should be.

The goldens were computed by the original libraries (tests/pretrained/clip_originals.py), once.
"""

import dataclasses
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants
from PIL import Image

from tests.pretrained.clip_originals import GOLDENS, inputs, picture, sizes_of
from tests.pretrained.clip_tools import clip_with_all_words, layers_of
from tests.tiny import SOUND, random_params, tiny_config, tiny_task
from unloc_jax import config as config_lib
from unloc_jax.errors import UserError
from unloc_jax.features.clip_encoder import ClipEncoder, fingerprint, preprocess, unit
from unloc_jax.model.clip import ImageTower
from unloc_jax.pretrained.clip_files import is_hub_id
from unloc_jax.pretrained.clip_model import Clip, load_clip, save_clip
from unloc_jax.pretrained.clip_names import OPENAI, Unseen, recognize
from unloc_jax.pretrained.clip_source import Options, read_any_clip, read_clip
from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint
from unloc_jax.training.init_from import initialize
from unloc_jax.training.state import TrainState

# Name of the golden, kind, file or folder, sizes, whether the original returns embeddings of length 1.
STORED = {
    "hf_quick_gelu_bfloat16": ("hf-clip", "hf_quick_gelu_bfloat16", "tiny", True),
    "hf_gelu_sharded": ("hf-clip", "hf_gelu_sharded", "tiny", True),
    "open_clip_gelu": ("open-clip", "open_clip_gelu", "tiny", False),
    "scenic_float16": ("scenic-clip", "scenic_float16.npy", "heads of 64", False),
}
SHARDED = GOLDENS / "hf_gelu_sharded"


@pytest.mark.parametrize("golden", STORED)
def test_numbers_of_the_original(golden):
    kind, source, sizes, of_length_1 = STORED[golden]
    clip = read_clip(kind, str(GOLDENS / source))
    wanted = np.load(GOLDENS / f"{golden}.npz")
    frames, tokens = inputs(sizes_of(sizes))
    encoder = ClipEncoder(clip, batch_size=3)
    images, texts = encoder.encode_images(frames), encoder.encode_tokens(tokens)
    np.testing.assert_allclose(encoder.logits(images, texts), wanted["logits"], atol=1e-4, rtol=0)
    if of_length_1:
        images, texts = unit(images), unit(texts)
    np.testing.assert_allclose(images, wanted["images"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(texts, wanted["texts"], atol=1e-4, rtol=0)
    if "layers" in wanted:
        layers, pooled = layers_of(clip, frames)
        np.testing.assert_allclose(layers, wanted["layers"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(pooled, wanted["pooled"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "width", "layers", "patch", "positions", "text_width", "embedding", "heads"),
    [
        ("ViT-B/32", 768, 12, 32, 50, 512, 512, (12, 8)),
        ("ViT-B/16", 768, 12, 16, 197, 512, 512, (12, 8)),
        ("ViT-L/14", 1024, 24, 14, 257, 768, 768, (16, 12)),
        ("ViT-L/14@336", 1024, 24, 14, 577, 768, 768, (16, 12)),
    ],
)
def test_openai_s_sizes_are_recognized(name, width, layers, patch, positions, text_width, embedding, heads):
    shapes = {
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.positional_embedding": (positions, width),
        "visual.proj": (width, embedding),
        "token_embedding.weight": (49408, text_width),
        "positional_embedding": (77, text_width),
        "text_projection": (text_width, embedding),
        **{f"visual.transformer.resblocks.{i}.ln_1.bias": (width,) for i in range(layers)},
        **{f"transformer.resblocks.{i}.ln_1.bias": (text_width,) for i in range(12)},
    }
    unseen = Unseen(*heads, "quick_gelu", "quick_gelu")
    config = recognize(shapes, OPENAI, unseen, "ViT.pt")
    assert (config.name, config.image.num_layers, config.text.num_layers) == (name, layers, 12)
    assert config.image_size == (336 if "336" in name else 224)


def test_the_other_gelu_would_be_noticed():
    clip = read_clip("hf-clip", str(SHARDED), Options(activation="quick_gelu"))
    frames, _ = inputs(sizes_of("tiny"))
    images = unit(ClipEncoder(clip).encode_images(frames))
    assert np.abs(images - np.load(f"{SHARDED}.npz")["images"]).max() > 3e-4


def test_preprocessing_is_that_of_the_original_to_the_bit():
    np.testing.assert_array_equal(preprocess(picture(), 32), np.load(GOLDENS / "preprocessed.npz")["pixels"])
    tall = np.stack([picture().transpose(1, 0, 2)] * 2)[None]
    assert preprocess(tall, 32).shape == (1, 2, 32, 32, 3)
    square = picture()[:32, :32]
    np.testing.assert_array_equal(preprocess(square, 32), square)


def test_pictures_of_another_size_and_no_pictures():
    encoder = ClipEncoder(read_clip("hf-clip", str(SHARDED)))
    assert encoder.encode_images(picture()).shape == (20,)
    assert encoder.encode_images(np.zeros((0, 40, 50, 3), np.uint8)).shape == (0, 20)
    with pytest.raises(ValueError, match="must be uint8"):
        encoder.encode_images(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="a vocabulary of 99 instead of CLIP's 49408"):
        encoder.encode_texts(["a cat"])


# --- unloc import -------------------------------------------------------------------------------------------------


def test_import_writes_a_folder_that_holds_the_same_clip(unloc, tmp_path):
    out = tmp_path / "clip"
    told = unloc("import", "--from=hf-clip", SHARDED, f"--out={out}").ok().out
    assert "ViT of 2 layers × 16, patches of 8@32, 32 pixels, embeddings of 20" in told
    assert "gelu_exact" in told
    clip, again = read_clip("hf-clip", str(SHARDED)), load_clip(out)
    assert again.config == clip.config
    chex.assert_trees_all_equal(again.params, clip.params)
    assert read_any_clip(str(out)).config == clip.config == read_any_clip(f"hf-clip:{SHARDED}").config

    assert "already holds a CLIP" in unloc("import", "--from=hf-clip", SHARDED, f"--out={out}").error()
    weights = out / "clip.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        load_clip(out)
    weights.write_bytes(whole)
    settings = json.loads((out / "clip.json").read_text())
    settings["config"]["image"]["num_layers"] = 3
    (out / "clip.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"does not fit clip\.json: of another shape: image/transformer"):
        load_clip(out)


def test_what_import_refuses(unloc, tmp_path):
    out = f"--out={tmp_path / 'out'}"
    assert "--config is needed" in unloc("import", "--from=scenic-unloc", "x.npz", out).error()
    assert (
        "--classes does not go with --from=hf-clip"
        in unloc("import", "--from=hf-clip", SHARDED, out, "--classes=c.txt").error()
    )
    assert (
        "--activation does not go with"
        in unloc("import", "--from=scenic-unloc", "x.npz", out, "--activation=gelu").error()
    )
    weights = GOLDENS / "open_clip_gelu" / "open_clip_model.safetensors"
    alone = shutil.copy(weights, tmp_path / "model.safetensors")
    assert "no file beside it names its activation" in unloc("import", "--from=open-clip", alone, out).error()
    told = unloc("import", "--from=open-clip", alone, out, "--activation=gelu").error()
    assert "0 heads do not divide the image tower's width of 16" in told
    unloc(
        "import", "--from=open-clip", alone, out, "--activation=gelu", "--image-heads=2", "--text-heads=3"
    ).ok()
    assert load_clip(tmp_path / "out").config == read_clip("open-clip", str(weights.parent)).config
    assert not list(tmp_path.glob("out/*.tmp"))


# --- files that are not what they should be -----------------------------------------------------------------------


@pytest.fixture
def hf(tmp_path) -> Path:
    """A copy of the model in one file, to be spoilt."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf_quick_gelu_bfloat16", folder)
    return folder


def error_of(folder: Path, kind: str = "hf-clip") -> str:
    with pytest.raises(UserError) as caught:
        read_clip(kind, str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tensors_are_listed_that_are_missing_unexpected_or_of_another_shape(hf):
    file = hf / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["vision_model.extra"] = np.zeros(3, np.float32)
    del tensors["text_model.encoder.layers.1.mlp.fc1.bias"]
    name = "vision_model.encoder.layers.0.self_attn.k_proj.weight"
    tensors[name] = tensors[name][:, :8]
    safetensors.numpy.save_file(tensors, file)
    told = error_of(hf)
    assert "missing: text_model.encoder.layers.1.mlp.fc1.bias" in told
    assert "unexpected: vision_model.extra" in told
    assert f"of another shape: {name} (16, 8) instead of (16, 16)" in told

    safetensors.numpy.save_file({k: v for k, v in tensors.items() if k.startswith("vision")}, file)
    told = error_of(hf)
    assert (
        "is not a whole CLIP. missing: visual_projection.weight, text_model.embeddings.token_embedding"
        in told
    )


def test_buffers_are_no_parameters_and_numbers_must_be_finite(hf):
    file = hf / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["text_model.embeddings.position_ids"] = np.arange(12)[None]
    safetensors.numpy.save_file(tensors, file)
    read_clip("hf-clip", str(hf))
    tensors["logit_scale"] = np.float32(np.nan)
    safetensors.numpy.save_file({name: np.asarray(x) for name, x in tensors.items()}, file)
    assert "numbers that are not finite in logit_scale" in error_of(hf)


def test_damaged_files(hf, tmp_path):
    file = hf / "model.safetensors"
    whole = file.read_bytes()
    for wrong in (whole[:-7], whole[:100], b"", b"<html>404</html>"):
        file.write_bytes(wrong)
        assert "is damaged or no safetensors file" in error_of(hf)
    file.write_bytes(whole)
    for text in ("{", "[]"):
        (hf / "config.json").write_text(text)
        assert "config.json" in error_of(hf)
    (hf / "config.json").unlink()
    assert "has no config.json" in error_of(hf)

    broken = tmp_path / "sharded"
    shutil.copytree(SHARDED, broken)
    (broken / "model-00002-of-00002.safetensors").unlink()
    assert "names the file model-00002-of-00002.safetensors, which is missing" in error_of(broken)
    (broken / "model.safetensors.index.json").unlink()
    assert "holds none of model.safetensors, pytorch_model.bin" in error_of(broken)

    stored = (GOLDENS / "scenic_float16.npy").read_bytes()
    npy = tmp_path / "clip.npy"
    for wrong in (stored[:-500], stored[:60], b"", b"PK"):
        npy.write_bytes(wrong)
        assert "is damaged or no .npy of Scenic's" in error_of(npy, "scenic-clip")


def test_a_pickle_that_would_run_a_program_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    file = tmp_path / "clip.npy"
    np.save(file, np.array({"visual.proj": Trap()}, object), allow_pickle=True)
    assert pickle.PROTO[:1] in file.read_bytes()
    assert "which no dictionary of arrays needs" in error_of(file, "scenic-clip")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "siglip"}, "model_type is 'siglip'"),
        ({"vision_config": {"hidden_act": "relu"}}, "vision_config.hidden_act is 'relu'"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "text_config.layer_norm_eps is 1e-06"),
        ({"text_config": {"num_attention_heads": 5}}, "5 heads do not divide the text tower's width of 24"),
        ({"text_config": {"num_attention_heads": "3"}}, "num_attention_heads is '3' instead of a whole"),
    ],
)
def test_settings_that_are_not_clips(hf, change, told):
    file = hf / "config.json"
    config = json.loads(file.read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    file.write_text(json.dumps(config))
    assert told in error_of(hf)


def test_settings_of_open_clip_that_are_not_clips(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "open_clip_gelu", folder)
    file = folder / "open_clip_config.json"
    whole = json.loads(file.read_text())
    for tower, key, value in (
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "pool_type", "avg"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "pool_type", "last"),
    ):
        config = json.loads(json.dumps(whole))
        config["model_cfg"][tower][key] = value
        file.write_text(json.dumps(config))
        assert f"{tower}.{key} is {value!r}" in error_of(folder, "open-clip")
    for key, value in (
        ("mean", [0.5, 0.5]), ("std", [0.5, 0.5, 0]), ("resize_mode", "longest"), ("interpolation", "bilinear"),
    ):  # fmt: skip
        file.write_text(json.dumps({**whole, "preprocess_cfg": {key: value}}))
        assert f"{key} is {value!r}" in error_of(folder, "open-clip")


def test_settings_of_an_image_processor_that_are_not_clips(hf):
    file, newer = hf / "preprocessor_config.json", hf / "processor_config.json"
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
    for same in (size, {"size": 32, "crop_size": 32}, {"image_mean": None}, {}):
        file.write_text(json.dumps(same))
        assert read_clip("hf-clip", str(hf)).config.resize == "shortest"
    for key, value in (
        ("resample", 2), ("do_normalize", False), ("do_center_crop", False), ("size", {"longest_edge": 32}),
        ("size", {"height": 32, "width": 40}), ("crop_size", 30), ("image_std", "imagenet"),
    ):  # fmt: skip
        file.write_text(json.dumps({**size, key: value}))
        assert f"preprocessor_config.json: {key} is {value!r}" in error_of(hf)
    newer.write_text(json.dumps({"image_processor": {"resample": 0}}))
    file.unlink()
    assert "processor_config.json: resample is 0" in error_of(hf)


def test_a_picture_is_squashed_where_the_settings_say_so(hf, tmp_path):
    settings = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    (hf / "preprocessor_config.json").write_text(json.dumps(settings))
    save_clip(read_clip("hf-clip", str(hf)), tmp_path / "ours")
    squashing, plain = (
        load_clip(tmp_path / "ours"),
        read_clip("hf-clip", str(GOLDENS / "hf_quick_gelu_bfloat16")),
    )
    assert fingerprint(squashing) != fingerprint(plain)
    square = np.asarray(Image.fromarray(picture()).resize((32, 32), Image.Resampling.BICUBIC))
    found = ClipEncoder(squashing).encode_images(picture())
    np.testing.assert_allclose(found, ClipEncoder(plain).encode_images(square), atol=1e-6)


def test_other_means_are_put_into_the_embeddings(hf):
    frames, _ = inputs(sizes_of("tiny"))
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.3)
    (hf / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    plain, ours = read_clip("hf-clip", str(GOLDENS / "hf_quick_gelu_bfloat16")), read_clip("hf-clip", str(hf))
    wanted = ImageTower(plain.config.image).apply(
        {"params": plain.params["image"]}, ((frames / 255 - mean) / std).astype(np.float32)[:, None]
    )
    found = ImageTower(ours.config.image).apply({"params": ours.params["image"]}, frames[:, None])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - ImageTower(plain.config.image).apply(
        {"params": plain.params["image"]}, frames[:, None])).max() > 0.01  # fmt: skip


def test_pixels_beyond_the_last_whole_patch_are_left_out(hf, tmp_path):
    """As in a convolution with strides. And patches that do not divide 224 are read again after an import."""
    file = hf / "config.json"
    config = json.loads(file.read_text())
    config["vision_config"]["image_size"] = 37
    file.write_text(json.dumps(config))
    clip = read_clip("hf-clip", str(hf))
    assert clip.config.image_size == 37
    frames = np.random.default_rng(0).integers(0, 256, (2, 37, 37, 3), np.uint8)
    found = ClipEncoder(clip).encode_images(frames)
    frames[:, 32:] = frames[:, :, 32:] = 0
    np.testing.assert_array_equal(ClipEncoder(clip).encode_images(frames), found)
    config["vision_config"]["image_size"] = 48
    file.write_text(json.dumps(config))
    assert "has 48 pixels, but the weights are those of 4 × 4 patches of 8 pixels" in error_of(hf)

    image = dataclasses.replace(clip.config.image, patch_size=5)
    kernel = {"kernel": np.ones((75, image.width), np.float32)}
    params = {**clip.params, "image": {**clip.params["image"], "patch_embedding": kernel}}
    save_clip(
        Clip(dataclasses.replace(clip.config, image=image, image_size=20), params, "of 5"), tmp_path / "five"
    )
    assert load_clip(tmp_path / "five").config.image == image


def test_any_folder_is_told_by_its_files(tmp_path):
    for golden in ("hf_gelu_sharded", "open_clip_gelu"):
        assert (
            read_any_clip(str(GOLDENS / golden)).config
            == read_clip(STORED[golden][0], str(GOLDENS / golden)).config
        )
    for empty in (tmp_path, GOLDENS / "scenic_float16.npy", tmp_path / "nothing"):
        with pytest.raises(UserError, match="is not a CLIP: give a folder"):
            read_any_clip(str(empty))
    shutil.copytree(GOLDENS / "open_clip_gelu", tmp_path / "timm")
    (tmp_path / "timm" / "config.json").write_text('{"architecture": "vit_base_patch16_clip_224"}')
    read_any_clip(str(tmp_path / "timm"))
    (tmp_path / "timm" / "config.json").unlink()
    assert "It looks as if it were for --from open-clip" in error_of(tmp_path / "timm")


def test_the_wrong_kind_is_named(hf):
    assert "has Hugging Face's names of tensors: try --from hf-clip" in error_of(
        Path(shutil.copytree(hf, hf.parent / "b")) / "model.safetensors", "open-clip"
    )
    config = shutil.copy(hf / "config.json", hf.parent / "config.json")
    weights = GOLDENS / "open_clip_gelu" / "open_clip_model.safetensors"
    told = error_of(Path(shutil.copy(weights, Path(config).parent / "m.safetensors")))
    assert "has OpenAI's names of tensors: try --from open-clip or --from openai-clip" in told
    assert "is neither a file nor a folder nor an id" in error_of(Path("no/such/model"))
    assert "is not a file. Give a .pt file" in error_of(Path("ViT-B-32.pt"), "openai-clip")


def test_without_torch_its_files_are_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "ViT-B-32.pt").write_bytes(b"PK")
    told = error_of(tmp_path / "ViT-B-32.pt", "openai-clip")
    assert told.endswith("to read it torch is needed: pip install 'unloc_jax[torch]'")


def test_resnets_are_not_for_us(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    safetensors.numpy.save_file(
        {"visual.layer1.0.conv1.weight": np.zeros((2, 2, 1, 1), np.float32)}, tmp_path / "m.safetensors"
    )
    with pytest.raises(UserError, match="a CLIP with a ResNet"):
        read_clip("open-clip", str(tmp_path / "m.safetensors"), Options(activation="gelu"))


@pytest.mark.parametrize(
    ("source", "is_id"),
    [("a/b", True), ("a/b@main", True), ("a/b@refs/pr/1", True), ("a/b@v1.0", True), ("a/b@0a1b", True)]
    + [
        (f"a/b@{revision}", False)
        for revision in ("..", "../../x", "x/../y", "/etc", "a//b", "", "-x", "x\n")
    ]
    + [("../b", False), ("a", False), ("a/b/c", False)],
)
def test_ids_of_the_hub(source, is_id):
    assert is_hub_id(source) == is_id


# --- the hub ------------------------------------------------------------------------------------------------------


def test_offline_the_cache_is_enough_and_else_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = error_of(Path("someone/tiny-clip"))
    assert "HF_HUB_OFFLINE is set, and its cache lacks config.json of someone/tiny-clip" in told
    assert "Download it where there is a network, or give a local folder" in told
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, and its cache lacks config"):
        read_any_clip("someone/tiny-clip")

    cached = tmp_path / "models--someone--tiny-clip"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    snapshot = cached / "snapshots" / ("0" * 40)
    shutil.copytree(SHARDED, snapshot)
    clip = read_any_clip("hf-clip:someone/tiny-clip")
    assert fingerprint(read_any_clip("someone/tiny-clip")) == fingerprint(clip)
    chex.assert_trees_all_equal(clip.params, read_clip("hf-clip", str(SHARDED)).params)
    for shard in snapshot.glob("model*"):
        shard.unlink()
    assert "(offline, the cache may lack what the hub has)" in error_of(Path("someone/tiny-clip"))


# --- config.init_from ---------------------------------------------------------------------------------------------

IMAGE = {"width": 16, "num_layers": 2, "num_heads": 2, "patch_size": 8, "activation": "gelu_exact"}
TEXT = {
    "width": 24, "num_layers": 2, "num_heads": 3, "max_tokens": 8, "vocabulary_size": 99, "activation": "gelu_exact",
}  # fmt: skip


def started(
    source: str, image: dict | None = None, text: dict | None = None, crop_size: int = 32, **model: Any
):
    """(parameters as initialised, after init_from, what was told)."""
    task = tiny_task(
        data={"num_frames": 8, "crop_size": crop_size},
        model={"image": {**IMAGE, **(image or {})}, "text": {**TEXT, **(text or {})}, **model},
        init_from=source,
    )
    params = jax.tree.map(jax.numpy.asarray, random_params(task))
    told: list[str] = []
    state = initialize(task.config, TrainState(jax.numpy.int32(0), params, {}), told.append)
    return params, state.params, told


def test_a_training_starts_from_a_clip(tmp_path):
    clip = read_clip("hf-clip", str(SHARDED))
    save_clip(clip, tmp_path / "clip")
    own, params, told = started(str(tmp_path / "clip"))
    chex.assert_trees_all_equal(params["towers_rgb"], clip.params["image"])
    positions = params["text_tower"].pop("position_embedding")
    np.testing.assert_array_equal(positions, clip.params["text"]["position_embedding"][:8])
    of_text = {k: v for k, v in clip.params["text"].items() if k != "position_embedding"}
    chex.assert_trees_all_equal(params["text_tower"], of_text)
    for part in set(own) - {"towers_rgb", "text_tower"}:
        chex.assert_trees_all_equal(params[part], own[part])
    assert told[0].startswith("init_from: hf-clip ")
    table = {line.split()[0]: line.split()[1:] for line in told[2:-1]}
    size = sum(x.size for x in jax.tree.leaves(clip.params["image"]))
    assert table["towers_rgb"] == [f"{size:,}", "0", "0", "0"]
    assert table["head"][0] == table["fusion"][0] == "0" and table["logit_scale"] == ["0", "0", "0", "1"]
    assert told[-1] == "  adapted: text_tower/position_embedding (12, 24) → (8, 24)"

    again = started(f"hf-clip:{SHARDED}")[1]
    chex.assert_trees_all_equal(again["towers_rgb"], params["towers_rgb"])


@pytest.mark.slow
def test_the_command_that_trains_takes_a_clip(unloc, captions_dataset, tmp_path):
    save_clip(clip_with_all_words(), tmp_path / "clip")
    values = config_lib.from_mapping(
        {
            **json.loads(config_lib.to_json(tiny_config())),
            "model": {"image": IMAGE, "text": {**TEXT, "vocabulary_size": 49408}, "dtype": "float32"},
            "init_from": str(tmp_path / "clip"),
        }
    )
    (tmp_path / "config.json").write_text(config_lib.to_json(values))
    config = tmp_path / "config.py"
    config.write_text(
        f"import json\n\n\ndef get_config():\n    return json.load(open({str(tmp_path / 'config.json')!r}))\n"
    )
    told = unloc(
        "train", f"--config={config}", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={captions_dataset}",
        "--config.train.steps=1", "--config.train.warmup_steps=0",
    ).ok()  # fmt: skip
    assert "init_from: random words (ViT of 2 layers" in told.err and "towers_rgb" in told.err
    stored = load_checkpoint(find_checkpoint(tmp_path / "run"))[0]
    assert stored.init_from == str((tmp_path / "clip").resolve())


def test_a_tower_of_sound_beside_the_clip_stays_as_it_is(tmp_path):
    clip = read_clip("hf-clip", str(SHARDED))
    save_clip(clip, tmp_path / "clip")
    both = {"audio": SOUND["audio"], "modalities": {"rgb": {}, "audio": {"encoder": "audio"}}}
    own, params, told = started(str(tmp_path / "clip"), **both)
    chex.assert_trees_all_equal(params["towers_rgb"], clip.params["image"])
    chex.assert_trees_all_equal(params["towers_audio"], own["towers_audio"])
    (of_sound,) = [line.split()[1:] for line in told if line.split()[0] == "towers_audio"]
    assert (of_sound[0], of_sound[1], of_sound[3]) == ("0", "0", "0")


def test_a_source_of_another_program_keeps_its_kind(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for given, kept in (
        ("hf-clip:openai/clip-vit-base-patch16", "hf-clip:openai/clip-vit-base-patch16"),
        ("hf-clip:here", f"hf-clip:{tmp_path / 'here'}"),
        ("runs/a", str(tmp_path / "runs" / "a")),
        ("", ""),
    ):
        assert config_lib.with_absolute_paths(tiny_config(init_from=given)).init_from == kept


def test_other_sizes_are_adapted():
    clip = read_clip("hf-clip", str(SHARDED)).params["image"]
    own, params, told = started(
        f"hf-clip:{SHARDED}", {"class_token_per_frame": True, "temporal_kernel": 3}, {"max_tokens": 14}, 16
    )
    tower = params["towers_rgb"]
    np.testing.assert_array_equal(tower["class_embedding"], np.tile(clip["class_embedding"], (8, 1)))
    # A grid of 4×4 becomes one of 2×2 by its corners; the class row is first.
    rows = np.array([0, 1, 4, 13, 16])
    np.testing.assert_allclose(tower["position_embedding"], clip["position_embedding"][rows], atol=1e-6)
    before, middle, after = np.split(np.asarray(tower["patch_embedding"]["kernel"]), 3)
    np.testing.assert_array_equal(middle, clip["patch_embedding"]["kernel"])
    assert not before.any() and not after.any()
    positions = params["text_tower"]["position_embedding"]
    np.testing.assert_array_equal(positions[12:], own["text_tower"]["position_embedding"][12:])
    assert len([line for line in told if "adapted:" in line]) == 4

    _, params, told = started(f"hf-clip:{SHARDED}", {"pooling": "mean"})
    np.testing.assert_array_equal(params["towers_rgb"]["position_embedding"], clip["position_embedding"][1:])
    of_tower = next(line.split() for line in told if line.split()[0] == "towers_rgb")
    assert of_tower[-1] == "16"  # numbers not used: the class token


def test_a_model_that_is_not_the_clip_is_refused():
    with pytest.raises(UserError) as caught:
        started(
            f"hf-clip:{SHARDED}", {"activation": "quick_gelu", "num_layers": 1}, {"width": 16, "num_heads": 2}
        )
    assert str(caught.value).endswith(
        "config.model.image.num_layers is 1, the CLIP's 2; config.model.image.activation is 'quick_gelu', the "
        "CLIP's 'gelu_exact'; config.model.text.width is 16, the CLIP's 24; config.model.text.num_heads is 2, the "
        "CLIP's 3."
    )
