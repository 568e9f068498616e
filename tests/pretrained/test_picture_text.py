"""SigLIP 2 and PE-Core: equal to the originals' stored numbers; sizes from the weights; what does not fit is listed."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.pretrained.picture_text_originals import TEXTS
from tests.pretrained.picture_text_tools import (
    GOLDENS,
    PE,
    SIGLIP,
    SOURCES,
    changed,
    pe_with_all_words,
    with_settings,
)
from unloc_jax.errors import UserError
from unloc_jax.features import families
from unloc_jax.features.encoder import unit
from unloc_jax.features.families import open_encoder
from unloc_jax.features.picture_encoder import PictureTextEncoder, preprocess
from unloc_jax.model.picture_text import PictureText
from unloc_jax.model.rotary import picture_rotation, rotate
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.pretrained import siglip
from unloc_jax.pretrained.pe_core import PE_CORE
from unloc_jax.pretrained.picture_text import Layout, Unseen, read_picture_text
from unloc_jax.pretrained.siglip import SIGLIP_2
from unloc_jax.text_reader import TokenizerFile

FAMILIES = {"siglip": SIGLIP_2, "pe": PE_CORE, "big_vision": SIGLIP_2, "big_vision_scanned": SIGLIP_2}


def outputs(encoder, golden) -> dict[str, np.ndarray]:
    images, texts = encoder.encode_images(golden["frames"]), encoder.encode_tokens(golden["tokens"])
    return {"images": images, "texts": texts, "logits": encoder.logits(images, texts)}


@pytest.mark.parametrize("name", SOURCES)
def test_numbers_are_the_originals(name):
    golden = np.load(GOLDENS / f"{name}.npz")
    for key, found in outputs(open_encoder(SOURCES[name]), golden).items():
        np.testing.assert_allclose(found, golden[key], atol=1e-5, rtol=0, err_msg=key)


@pytest.mark.parametrize(("name", "golden"), [("siglip", SIGLIP), ("pe", PE)])
def test_every_tensor_has_its_part_in_the_numbers(tmp_path, name, golden):
    """So a golden notices if one is read into the wrong place, or not at all."""
    numbers = np.load(GOLDENS / f"{name}.npz")
    family, tensors = FAMILIES[name], load(golden)
    model = PictureText(read_picture_text(family, str(golden)).config)
    both = jax.jit(lambda params: model.apply({"params": params}, numbers["frames"], numbers["tokens"]))

    def embeddings(arrays) -> tuple[dict, np.ndarray, np.ndarray]:
        params = read_picture_text(family, str(changed(tmp_path, golden, arrays))).params
        return params, *both(params)

    before, *wanted = embeddings({})
    rng = np.random.default_rng(0)
    for key, array in tensors.items():
        noise = np.asarray(array.astype(np.float32) + rng.normal(0, 0.3, array.shape), np.float32)
        params, *found = embeddings({key: noise})
        of_images, of_texts = (float(np.abs(a - b).max()) for a, b in zip(found, wanted))
        if "logit" in key:
            assert params[key] != before[key] and of_images == of_texts == 0
        elif "k_proj.bias" in key:  # the same for all keys: softmax takes it away
            assert max(of_images, of_texts) < 1e-4
        elif key.startswith("vis"):
            assert of_images > 1e-4 and of_texts == 0, key
        else:
            assert of_texts > 1e-4 and of_images == 0, key


def test_half_the_precision_is_near():
    for name in ("siglip", "pe"):
        source, golden = SOURCES[name], np.load(GOLDENS / f"{name}.npz")
        found = outputs(open_encoder(source, jnp.bfloat16), golden)
        for key in ("images", "texts"):
            assert (unit(found[key]) * unit(golden[key])).sum(-1).min() > 0.99, (name, key)


def test_names_and_sizes(tmp_path):
    assert open_encoder(SOURCES["siglip"]).name == "SigLIP 2 of 2 layers × 24, patches of 4@18"
    config = read_picture_text(SIGLIP_2, str(SIGLIP)).config
    assert (config.image.num_heads, config.image_form.mlp_dim, config.text.num_heads) == (3, 50, 2)
    assert (config.image_size, config.grid, config.text.max_tokens, config.embed_dim) == (18, 4, 12, 24)
    buffer = {"vision_model.embeddings.position_ids": np.arange(16)[None]}  # of older transformers
    assert read_picture_text(SIGLIP_2, str(changed(tmp_path, SIGLIP, buffer))).config == config
    config = read_picture_text(SIGLIP_2, SOURCES["big_vision"].partition(":")[2]).config
    assert (config.image.num_heads, config.text.num_heads, config.text.num_layers) == (3, 2, 2)
    config = read_picture_text(PE_CORE, str(PE)).config
    assert (config.image.num_heads, config.image_form.pooler_heads, config.image_form.rotary_grid) == (
        1,
        8,
        14,
    )


def test_what_no_shape_shows_changes_the_numbers(tmp_path):
    """Heads, the rotary grid, the size of pictures; a fingerprint knows them all."""
    golden = np.load(GOLDENS / "pe.npz")
    plain = open_encoder(SOURCES["pe"])
    wanted = outputs(plain, golden)["images"]
    prints = {plain.fingerprint()}
    for unseen in (Unseen(image_heads=2), Unseen(pooler_heads=4), Unseen(rotary_grid=4)):
        other = PictureTextEncoder(read_picture_text(PE_CORE, str(PE), unseen))
        assert np.abs(outputs(other, golden)["images"] - wanted).max() > 1e-3
        prints.add(other.fingerprint())
    text = PictureTextEncoder(read_picture_text(PE_CORE, str(PE), Unseen(text_heads=1)))
    assert np.abs(outputs(text, golden)["texts"] - outputs(plain, golden)["texts"]).max() > 1e-3
    prints.add(text.fingerprint())
    assert len(prints) == 5


def test_pe_core_of_timm(tmp_path):
    """The image tower alone, whose settings are in timm's config.json; its texts are refused."""
    tensors = load_file(PE / "open_clip_model.safetensors")
    top = "visual.trunk."
    images = {name.removeprefix(top): array for name, array in tensors.items() if name.startswith(top)}
    save_file(images, tmp_path / "model.safetensors")
    golden = np.load(GOLDENS / "pe.npz")
    settings = {"architecture": "vit_pe_core_base_patch16_224"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    encoder = open_encoder(f"pe:{tmp_path}")
    np.testing.assert_allclose(encoder.encode_images(golden["frames"]), golden["images"], atol=1e-5)
    with pytest.raises(UserError, match="the image tower alone, which reads no texts"):
        encoder.check_texts()
    arguments = {"num_heads": 2, "attn_pool_num_heads": 4, "ref_feat_shape": [4, 4]}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_args": arguments}))
    config = read_picture_text(PE_CORE, str(tmp_path / "model.safetensors")).config
    assert (config.image.num_heads, config.image_form.pooler_heads, config.image_form.rotary_grid) == (
        2,
        4,
        4,
    )
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_224"}))
    with pytest.raises(UserError, match=r"architecture is 'vit_base_patch16_224', which is no PE-Core"):
        read_picture_text(PE_CORE, str(tmp_path))


def test_rotation():
    """Queries and keys depend on distances alone; the class token is not turned; a stretched grid turns by less."""
    rotation = picture_rotation((3, 5), 14, 16, others=1)
    assert rotation.shape == (2, 16, 8)
    np.testing.assert_array_equal(rotation[:, 0], [[1.0] * 8, [0.0] * 8])
    rng = np.random.default_rng(0)
    query, key = np.broadcast_to(rng.normal(size=(2, 1, 1, 1, 16)), (2, 1, 16, 1, 16)).astype(np.float32)
    logits = np.einsum("mqhd,mkhd->qk", rotate(query, rotation), rotate(key, rotation))[1:, 1:]
    logits = logits.reshape(3, 5, 3, 5)
    np.testing.assert_allclose(logits[1:, 1:, 1:, 1:], logits[:-1, :-1, :-1, :-1], atol=1e-5)
    assert np.abs(logits[0, 0] - logits[0, 0, 0, 0]).max() > 0.1
    once, twice = picture_rotation((4, 4), 4, 8, 0), picture_rotation((4, 4), 8, 8, 0)
    np.testing.assert_allclose(np.cos(2 * np.arccos(once[0, :, ::2])), twice[0, :, ::2], atol=1e-5)


def test_a_new_family_is_a_description_and_a_line(monkeypatch):
    """SigLIP 2 under other names of tensors: what differs is told by the description alone."""
    names = {
        path: tuple(of._replace(name=of.name.replace("_model.", "_toy.")) for of in ofs)
        for path, ofs in siglip.HUGGING_FACE.names.items()
    }

    def renamed(tensors: dict) -> dict:
        return {name.replace("_model.", "_toy."): array for name, array in tensors.items()}

    toy = dataclasses.replace(SIGLIP_2, title="Toy", kind="toy", layouts=(Layout(names, renamed),))
    of_toys = families.of_pictures_and_texts(toy)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, of_toys))
    encoder, golden = open_encoder(f"toy:{SIGLIP}"), np.load(GOLDENS / "siglip.npz")
    assert encoder.name.startswith("Toy of 2 layers") and families.family_of("toy:x").modality == "toy"
    np.testing.assert_allclose(encoder.encode_images(golden["frames"]), golden["images"], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), golden["texts"], atol=1e-5)


# --- pictures -----------------------------------------------------------------------------------------------------


def test_pictures_are_squashed(tmp_path):
    frame = np.random.default_rng(5).integers(0, 256, (53, 70, 3), np.uint8)
    for resample, number in (("bilinear", 2), ("bicubic", 3)):
        folder = shutil.copytree(SIGLIP, tmp_path / resample)
        encoder = open_encoder(
            f"siglip2:{with_settings(folder, 'preprocessor_config.json', resample=number)}"
        )
        wanted = np.asarray(Image.fromarray(frame).resize((18, 18), Image.Resampling(number)))
        np.testing.assert_array_equal(encoder.preprocess(frame), wanted)
        np.testing.assert_array_equal(preprocess(frame, 18, "squash", resample), wanted)
    pe = open_encoder(SOURCES["pe"])
    np.testing.assert_array_equal(
        pe.preprocess(frame), np.asarray(Image.fromarray(frame).resize((16, 16), Image.Resampling.BILINEAR))
    )
    (folder / "preprocessor_config.json").unlink()
    config = read_picture_text(SIGLIP_2, str(folder)).config
    assert (config.resize, config.resample, config.image_form.mean) == ("squash", "bilinear", (0.5, 0.5, 0.5))


def test_other_means_are_used(tmp_path):
    folder = with_settings(
        shutil.copytree(SIGLIP, tmp_path / "m"), "preprocessor_config.json", image_mean=[0, 0, 0]
    )
    frames = np.load(GOLDENS / "siglip.npz")["frames"]
    weights = read_picture_text(SIGLIP_2, str(folder))
    assert weights.config.image_form.mean == (0.0, 0.0, 0.0)
    # 0.5 + x / 2 with mean 0 is what x is with mean 0.5.
    darker = PictureTextEncoder(weights).encode_images(frames // 2)
    plain = open_encoder(SOURCES["siglip"])
    shifted = plain.encode_images(np.clip(frames // 2 + 127.5, 0, 255).astype(np.uint8))
    assert np.abs(darker - shifted).max() < 0.2 < np.abs(darker - plain.encode_images(frames // 2)).max()


# --- texts --------------------------------------------------------------------------------------------------------


def test_texts_are_read_as_the_original_reads_them(tmp_path):
    encoder, golden = open_encoder(SOURCES["siglip"]), np.load(GOLDENS / "siglip.npz")
    tokens = TokenizerFile(SIGLIP / "tokenizer.json", 320, 12).tokenize(TEXTS)
    np.testing.assert_array_equal(tokens, golden["tokens"])
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), golden["texts"], atol=1e-5)
    assert encoder.most_pieces == 11 and encoder.num_pieces("word " * 30) > 11
    words = TEXTS[0]
    np.testing.assert_array_equal(encoder.encode_texts([words]), encoder.encode_texts([words.upper()]))
    # big_vision's weights bring no vocabulary.
    source = shutil.copy(GOLDENS / "big_vision.weights.npz", tmp_path)
    with pytest.raises(UserError, match=r"give --tokenizer=FILE, or put tokenizer\.json beside"):
        open_encoder(f"siglip2:{source}").check_texts()
    with pytest.raises(UserError, match="has 319 word pieces, the model's table 40"):
        open_encoder(f"siglip2:{source}", vocabulary=str(SIGLIP)).check_texts()


def test_texts_of_pe_core_are_clips(tmp_path):
    encoder = open_encoder(f"pe:{pe_with_all_words(tmp_path / 'pe')}")
    assert encoder.encode_texts(["a cat", "a dog"]).shape == (2, 20) and encoder.most_pieces == 8
    with pytest.raises(UserError, match="a vocabulary of 99 instead of CLIP's 49408"):
        open_encoder(SOURCES["pe"]).encode_texts(["a cat"])
    with pytest.raises(UserError, match="--tokenizer=x: PE-Core brings its own vocabulary"):
        open_encoder(SOURCES["pe"], vocabulary="x")


def test_bad_vocabularies(tmp_path):
    def told(content: bytes | None, size: int = 320) -> str:
        file = tmp_path / "tokenizer.json"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError) as error:
            TokenizerFile(file, size, 12)
        assert "\n" not in str(error.value) and str(file) in str(error.value)
        return str(error.value)

    whole = (SIGLIP / "tokenizer.json").read_bytes()
    assert "cannot be read: No such file" in told(None)
    for content in (b"", b"{}", whole[:2000], b"\xff\xfe", b"[" * 100_000):
        assert "damaged or no tokenizer.json" in told(content)
    assert "lacks <eos> or <pad>" in told(whole.replace(b"<eos>", b"</s>"))
    assert "has 319 word pieces, the model's table 9" in told(whole, 9)
    with pytest.raises(UserError, match=r"--tokenizer=.*gone: there is no such file"):
        open_encoder(SOURCES["siglip"], vocabulary=str(tmp_path / "gone"))


# --- bad weights --------------------------------------------------------------------------------------------------


def told_of(family, source, **keywords) -> str:
    with pytest.raises(UserError) as error:
        read_picture_text(family, str(source), **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "bias", "patches", "position", "number"),
    [
        ("siglip", "text_model.head.bias", "vision_model.embeddings.patch_embedding.weight",
         "vision_model.embeddings.position_embedding.weight", 17),
        ("pe", "visual.trunk.norm.bias", "visual.trunk.patch_embed.proj.weight", "visual.trunk.pos_embed", 18),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_listed(tmp_path, name, bias, patches, position, number):
    golden, family = {"siglip": SIGLIP, "pe": PE}[name], FAMILIES[name]

    def told(**arrays) -> str:
        return told_of(family, changed(tmp_path / "c", golden, arrays))

    message = told(**{bias: None, "more": np.zeros(2, np.float32)})
    assert f"missing: {bias}; unexpected: more." in message
    assert f"{bias} (7,) instead of (" in told(**{bias: np.zeros(7, np.float32)})
    assert f"not finite: {bias}" in told(**{bias: np.full_like(load(golden)[bias], np.nan, np.float32)})
    assert f"missing: {patches}" in told(**{patches: None})
    assert f"{patches} (3,) instead of 4 axes" in told(**{patches: np.zeros(3, np.float32)})
    table = load(golden)[position]
    other = np.zeros((*table.shape[:-2], number, table.shape[-1]), np.float32)
    assert f"{number} image positions are not" in told(**{position: other})
    one = next(key for key in load(golden) if "layers.0." in key or "blocks.0." in key)
    gone = one.replace(".0.", ".1.")
    assert gone in told(**{gone: None})


def load(golden):
    (file,) = golden.glob("*.safetensors")
    return load_file(file)


def test_scanned_layers_that_do_not_fit_are_listed(tmp_path):
    arrays = dict(np.load(GOLDENS / "big_vision_scanned.weights.npz"))
    name = "params/img/Transformer/encoderblock/LayerNorm_0/scale"
    np.savez(tmp_path / "w.npz", **{**arrays, name: arrays[name][:2]})
    assert "missing: img/Transformer/encoderblock_2/LayerNorm_0/scale" in told_of(
        SIGLIP_2, tmp_path / "w.npz"
    )
    np.savez(tmp_path / "w.npz", **{**arrays, name: np.zeros(3, np.int32)})
    assert "not numbers" in told_of(SIGLIP_2, tmp_path / "w.npz")
    # bfloat16 has no name in NumPy's files.
    half = {key: array.astype(jnp.bfloat16) for key, array in arrays.items()}
    np.savez(tmp_path / "w.npz", **half)
    found = read_picture_text(SIGLIP_2, str(tmp_path))
    np.testing.assert_array_equal(
        found.params["image"]["norm_out"]["scale"],
        half["params/img/Transformer/encoder_norm/scale"].astype(np.float32),
    )


def test_what_is_no_such_model_is_refused_in_one_line(tmp_path):
    assert "there is no such file or folder" in told_of(SIGLIP_2, tmp_path / "gone")
    assert "has no config.json" in told_of(SIGLIP_2, tmp_path)
    shutil.copy(SIGLIP / "model.safetensors", tmp_path)
    assert "has no config.json, which has what the weights lack" in told_of(
        SIGLIP_2, tmp_path / "model.safetensors"
    )
    assert "is not a whole PE-Core. missing: visual" in told_of(PE_CORE, tmp_path / "model.safetensors")
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    assert "holds no PE-Core: none of its 1 tensors" in told_of(PE_CORE, tmp_path / "x.safetensors")
    (tmp_path / "model.safetensors").write_bytes((SIGLIP / "model.safetensors").read_bytes()[:5000])
    shutil.copy(SIGLIP / "config.json", tmp_path)
    assert "damaged" in told_of(SIGLIP_2, tmp_path)
    assert "damaged" in told_of(PE_CORE, tmp_path / "model.safetensors")
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_bytes(b"no archive")
    assert "damaged" in told_of(SIGLIP_2, tmp_path / "a.npz")
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    assert "several .npz: a.npz, b.npz. Name one" in told_of(SIGLIP_2, tmp_path)
    clip = GOLDENS.parent / "clip"
    assert "model_type is 'clip'; only \"siglip\"" in told_of(SIGLIP_2, clip / "hf_gelu_sharded")
    assert "is not a whole PE-Core. missing: visual.trunk.patch_embed" in told_of(
        PE_CORE, clip / "open_clip_gelu"
    )


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"model_type": "siglip2"}, "NaFlex models see pictures of any shape"),
        ({"vision_config": {"hidden_act": "gelu"}}, "vision_config.hidden_act is 'gelu'; SigLIP 2's is"),
        ({"text_config": {"layer_norm_eps": 1e-5}}, "text_config.layer_norm_eps is 1e-05"),
        ({"vision_config": {"vision_use_head": False}}, "vision_use_head is False"),
        (
            {"vision_config": {"num_attention_heads": 5}},
            "5 heads do not divide the image tower's width of 24",
        ),
        ({"vision_config": {"num_attention_heads": "3"}}, "instead of a whole number above 0"),
        (
            {"vision_config": {"image_size": 48}},
            "has 48 pixels, but the weights are those of 4 × 4 patches of 4",
        ),
        ({"text_config": 3}, "text_config is 3 instead of a group"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, groups, message):
    folder = shutil.copytree(SIGLIP, tmp_path / "s")
    assert message in told_of(SIGLIP_2, with_settings(folder, "config.json", **groups))


def test_settings_of_pictures_that_do_not_fit(tmp_path):
    folder = shutil.copytree(SIGLIP, tmp_path / "s")
    for key, value in (("resample", 1), ("do_resize", False), ("size", {"height": 18, "width": 20})):
        with_settings(folder, "preprocessor_config.json", **{key: value})
        assert f"preprocessor_config.json: {key} is " in told_of(SIGLIP_2, folder)
        shutil.copy(SIGLIP / "preprocessor_config.json", folder)
    folder = shutil.copytree(PE, tmp_path / "p")
    for groups, message in (
        ({"model_cfg": {"quick_gelu": True}}, "quick_gelu is True; PE-Core's is False"),
        (
            {"model_cfg": {"vision_cfg": {"timm_model_name": "vit_base_patch16_224"}}},
            "which is no PE-Core of timm's",
        ),
        ({"model_cfg": {"text_cfg": {"heads": 5}}}, "5 heads do not divide the text tower's width of 24"),
        ({"preprocess_cfg": {"interpolation": "random"}}, "preprocess_cfg.interpolation is 'random'"),
    ):
        with_settings(folder, "open_clip_config.json", **groups)
        assert message in told_of(PE_CORE, folder)
        shutil.copy(PE / "open_clip_config.json", folder)


def test_the_hubs_files_are_found_by_their_names(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert "its cache lacks config.json of google/siglip2-tiny" in told_of(SIGLIP_2, "google/siglip2-tiny")
    for name, golden in (("google/siglip2-tiny", SIGLIP), ("timm/PE-Core-tiny", PE)):
        cached = tmp_path / f"models--{name.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0" * 40)
        shutil.copytree(golden, cached / "snapshots" / ("0" * 40))
    found = read_picture_text(SIGLIP_2, "google/siglip2-tiny")
    assert (
        found.vocabulary.name == "tokenizer.json"
        and found.config == read_picture_text(SIGLIP_2, str(SIGLIP)).config
    )
    assert (
        read_picture_text(PE_CORE, "timm/PE-Core-tiny@main").config
        == read_picture_text(PE_CORE, str(PE)).config
    )
    npz = SOURCES["big_vision"].partition(":")[2]
    assert (
        read_picture_text(SIGLIP_2, npz, vocabulary="google/siglip2-tiny").vocabulary.name == "tokenizer.json"
    )


def test_options_of_execution_change_no_numbers():
    weights, golden = read_picture_text(PE_CORE, str(PE)), np.load(GOLDENS / "pe.npz")
    for compute in (ComputeOptions(remat="full"), ComputeOptions(chunk_size=1), ComputeOptions(unroll=2)):
        model = PictureText(weights.config, compute)
        with jax.default_matmul_precision("highest"):
            found = model.apply({"params": weights.params}, golden["frames"], method="encode_images")
        np.testing.assert_allclose(found, golden["images"], atol=1e-5)
