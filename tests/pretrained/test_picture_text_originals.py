"""SigLIP 2 and PE-Core made now by the original libraries, at several sizes, against ours; pictures and texts too.

Runs where the extra `oracle` is installed; big_vision where BIG_VISION names a checkout.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pretrained import picture_text_originals as originals
from tests.pretrained.picture_text_originals import GOLDENS, TEXTS
from unloc_jax.features.families import open_encoder
from unloc_jax.features.picture_encoder import preprocess
from unloc_jax.text_reader import TokenizerFile
from unloc_jax.video import FrameStream, probe

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

VIDEOS = Path(__file__).parents[3] / "shared" / "videos"
# Of transformers' SigLIP and of open_clip's PE-Core: the defaults are tiny; then real widths with few layers.
SIGLIPS = {
    "tiny": {},
    "one layer": {"layers": 1, "text_layers": 1, "width": 32, "heads": 4, "patch": 7, "size": 30},
    "B/16": {
        "width": 768, "layers": 4, "heads": 12, "mlp": 3072, "patch": 16, "size": 224, "text_width": 768,
        "text_layers": 3, "text_heads": 12, "text_mlp": 3072, "tokens": 64, "words": 1000,
    },
    "So400m/14": {
        "width": 1152, "layers": 2, "heads": 16, "mlp": 4304, "patch": 14, "size": 224, "text_width": 1152,
        "text_layers": 2, "text_heads": 16, "text_mlp": 4304, "tokens": 64, "words": 1000,
    },
}  # fmt: skip
PES = {
    "tiny": {},
    "three layers": {"layers": 3, "text_layers": 1, "text_heads": 2, "patch": 7, "size": 30, "tokens": 5},
    "B/16": {
        "width": 768, "layers": 4, "heads": 12, "patch": 16, "size": 224, "text_width": 1024, "text_layers": 3,
        "text_heads": 16, "tokens": 32, "words": 1000, "embedding": 1024,
    },
    "L/14": {
        "width": 1024, "layers": 2, "heads": 16, "patch": 14, "size": 336, "text_width": 1024, "text_layers": 2,
        "text_heads": 16, "tokens": 32, "words": 1000, "embedding": 1024,
        "architecture": "vit_pe_core_large_patch14_336",
    },
}  # fmt: skip


def assert_same(source: str, wanted: dict[str, np.ndarray], frames: np.ndarray, tokens: np.ndarray) -> None:
    encoder = open_encoder(source)
    images, texts = encoder.encode_images(frames), encoder.encode_tokens(tokens)
    for name, found in (("images", images), ("texts", texts), ("logits", encoder.logits(images, texts))):
        # Relative to embeddings that are several units large.
        apart = np.abs(found - wanted[name]).max() / max(1.0, np.abs(wanted[name]).max())
        print(f"{name}: {apart:.1e}")
        assert apart <= 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("size", SIGLIPS)
def test_siglip(size, tmp_path):
    sizes = SIGLIPS[size]
    model = originals.siglip(**sizes)
    originals.save_siglip(model, tmp_path)
    frames = originals.frames_of(sizes.get("size", 18))
    tokens = originals.tokens_of(sizes.get("words", 320), sizes.get("tokens", 12))
    assert_same(f"siglip2:{tmp_path}", originals.siglip_outputs(model, frames, tokens), frames, tokens)
    if size == "tiny":  # PyTorch's own file instead of safetensors
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        assert_same(f"siglip2:{tmp_path}", originals.siglip_outputs(model, frames, tokens), frames, tokens)


@pytest.mark.slow
@pytest.mark.parametrize("size", PES)
def test_pe_core(size, tmp_path):
    sizes = PES[size]
    model = originals.pe_core(**sizes)
    saved = {"architecture": sizes["architecture"]} if "architecture" in sizes else {}
    originals.save_pe(model, tmp_path, sizes.get("text_heads", 3), **saved)
    frames = originals.frames_of(sizes.get("size", 16))
    tokens = originals.pe_tokens(sizes.get("words", 99), sizes.get("tokens", 10))
    assert_same(f"pe:{tmp_path}", originals.pe_outputs(model, frames, tokens), frames, tokens)


@pytest.mark.skipif(
    "BIG_VISION" not in os.environ, reason="BIG_VISION names no checkout of big_vision, not here"
)
@pytest.mark.parametrize("scan", [False, True])
def test_big_vision(scan, tmp_path):
    apply, arrays, frames, tokens = originals.big_vision(
        Path(os.environ["BIG_VISION"]), scan, patch=7, size=30, tokens=6, seed=3
    )
    np.savez(tmp_path / "w.npz", **arrays)
    frames = frames[
        :, :28, :28
    ]  # its pictures are 30 pixels, of which 28 are seen, and its weights show only those
    assert_same(f"siglip2:{tmp_path / 'w.npz'}", apply(), frames, tokens)


def test_the_goldens_are_what_the_originals_compute():
    golden = np.load(GOLDENS / "siglip.npz")
    model = transformers.SiglipModel.from_pretrained(GOLDENS / "siglip", dtype=torch.float32).eval()
    for key, found in originals.siglip_outputs(model, golden["frames"], golden["tokens"]).items():
        np.testing.assert_allclose(found, golden[key], atol=2e-5, rtol=0, err_msg=key)
    golden = np.load(GOLDENS / "pe.npz")
    model = originals.pe_core(text_width=24)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(GOLDENS / "pe" / "open_clip_model.safetensors"))
    for key, found in originals.pe_outputs(model, golden["frames"], golden["tokens"]).items():
        np.testing.assert_allclose(found, golden[key], atol=2e-5, rtol=0, err_msg=key)


def test_every_published_size_is_known():
    """open_clip's configs of PE-Core and SigLIP 2 have the heads and names that we take where no file tells them."""
    import timm

    from unloc_jax.pretrained.pe_core import PE_CORE
    from unloc_jax.pretrained.siglip import SIGLIP_2

    for name, family in (("PE-Core-B-16", PE_CORE), ("PE-Core-L-14-336", PE_CORE), ("ViT-SO400M-14-SigLIP2", SIGLIP_2),
                         ("ViT-B-16-SigLIP2", SIGLIP_2), ("ViT-L-16-SigLIP2-256", SIGLIP_2)):  # fmt: skip
        settings = open_clip.get_model_config(name)
        with torch.device("meta"):
            tower = timm.create_model(settings["vision_cfg"]["timm_model_name"])
        width, patch = tower.embed_dim, tower.patch_embed.patch_size[0]
        assert (width, len(tower.blocks), patch) in family.sizes
        assert (family.heads.get(width) or width // 64) == tower.blocks[0].attn.num_heads
        assert (family.pooler_heads or family.heads.get(width) or width // 64) == tower.attn_pool.num_heads
        text = settings["text_cfg"]
        assert (family.heads.get(text["width"]) or text["width"] // 64) == text["heads"]
        if family.rotary:
            assert tower.rope.ref_feat_shape[0] == family.rotary_grids[width]


def test_tokens_are_those_of_the_original(tmp_path):
    texts = (*TEXTS, "ﬁne ½ İ ß", "\x00 control", "a<eos>b <pad>", "▁", "é e\u0301")
    tokenizer = originals.gemma_tokenizer(tmp_path)
    for length in (64, 12):
        wanted = originals.tokenized(tokenizer, texts, length)
        found = TokenizerFile(tmp_path / "tokenizer.json", 320, length).tokenize(texts)
        np.testing.assert_array_equal(found, wanted)


def _apart(frame: np.ndarray) -> dict[str, float]:
    """Largest difference, in levels of 255, between our preprocessing of a picture and the originals'."""
    from open_clip import image_transform
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    ours = preprocess(frame, 224, "squash", "bilinear").astype(np.float32)
    picture, half = Image.fromarray(frame), [0.5] * 3
    settings = {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": half, "image_std": half}
    of_open_clip = image_transform(
        224, is_train=False, mean=half, std=half, resize_mode="squash", interpolation="bilinear"
    )
    made = {
        "open_clip": of_open_clip(picture).numpy(),
        "transformers, with Pillow": SiglipImageProcessorPil(**settings)(picture)["pixel_values"][0],
        "transformers, with torchvision": transformers.SiglipImageProcessor(**settings)(
            picture, return_tensors="pt"
        )["pixel_values"][0].numpy(),
    }
    levels = lambda x: (np.asarray(x, np.float32).transpose(1, 2, 0) * 0.5 + 0.5) * 255
    return {name: float(np.abs(levels(x) - ours).max()) for name, x in made.items()}


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="no real videos here")
def test_preprocessing_of_real_pictures():
    apart: dict[str, float] = {}
    seen = 0
    for video in sorted(VIDEOS.glob("*.mp4")):
        info = probe(video)
        for frame in FrameStream(video, fps=1.0, short_side=min(info.width, info.height)):
            seen += 1
            for name, most in _apart(frame).items():
                apart[name] = max(apart.get(name, 0.0), most)
    print(seen, json.dumps(apart))
    assert seen > 5
    assert apart["open_clip"] < 1e-3 and apart["transformers, with Pillow"] < 1e-3
    assert apart["transformers, with torchvision"] < 2  # it rounds otherwise
