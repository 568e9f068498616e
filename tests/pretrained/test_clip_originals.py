"""CLIPs made now by the original libraries, in every format they save, against ours; and the goldens computed again.

Runs where the extra `oracle` is installed.
"""

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build import build
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from tests.pretrained import clip_originals as originals
from tests.pretrained.clip_originals import GOLDENS, inputs, picture, sizes_of
from tests.pretrained.clip_tools import layers_of
from unloc_jax.errors import UserError
from unloc_jax.features.clip_encoder import ClipEncoder, preprocess, unit
from unloc_jax.pretrained.clip_files import read_torch
from unloc_jax.pretrained.clip_model import load_clip, save_clip
from unloc_jax.pretrained.clip_source import read_clip
from unloc_jax.text import tokenize
from unloc_jax.video import FrameStream, probe

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("open_clip")
# Not imported as it is: it asks for a module that newer setuptools lack, and all would be skipped (`openai_package`).
if importlib.util.find_spec("clip") is None:
    pytest.skip("OpenAI's clip package is not there: pip install openai-clip", allow_module_level=True)

VIDEOS = Path(__file__).parents[3] / "shared" / "videos"


def assert_same(
    encoder: ClipEncoder, wanted: dict, frames: np.ndarray, tokens: np.ndarray, of_length_1: bool
):
    images, texts = encoder.encode_images(frames), encoder.encode_tokens(tokens)
    np.testing.assert_allclose(encoder.logits(images, texts), wanted["logits"], atol=1e-4, rtol=0)
    if of_length_1:
        images, texts = unit(images), unit(texts)
    np.testing.assert_allclose(images, wanted["images"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(texts, wanted["texts"], atol=1e-4, rtol=0)


def test_the_goldens_are_what_the_originals_compute():
    tiny, wide = sizes_of("tiny"), sizes_of("heads of 64")
    frames, tokens = inputs(tiny)
    computed = {}
    for name in ("hf_quick_gelu_bfloat16", "hf_gelu_sharded"):
        model = transformers.CLIPModel.from_pretrained(GOLDENS / name, dtype=torch.float32).eval()
        computed[name] = originals.hugging_face_outputs(model, frames, tokens)
    model = originals.open_clip(tiny, quick_gelu=False, custom_text=True)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(GOLDENS / "open_clip_gelu" / "open_clip_model.safetensors"))
    computed["open_clip_gelu"] = originals.embeddings(model, frames, tokens)
    model = originals.openai(wide)
    stored = np.load(GOLDENS / "scenic_float16.npy", allow_pickle=True).item()
    model.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in stored.items()})
    computed["scenic_float16"] = originals.embeddings(model, *inputs(wide))
    for name, outputs in computed.items():
        golden = np.load(GOLDENS / f"{name}.npz")
        assert set(golden) == set(outputs)
        for key in golden:
            np.testing.assert_allclose(golden[key], outputs[key], atol=2e-5, rtol=0, err_msg=f"{name} {key}")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "B/32"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_hugging_face(size, activation, tmp_path):
    sizes = sizes_of(size)
    frames, tokens = inputs(sizes)
    model = originals.hugging_face(sizes, activation)
    originals.save_hugging_face(model, tmp_path)
    clip = read_clip("hf-clip", str(tmp_path))
    wanted = originals.hugging_face_outputs(model, frames, tokens)
    assert_same(ClipEncoder(clip), wanted, frames, tokens, of_length_1=True)
    layers, pooled = layers_of(clip, frames)
    np.testing.assert_allclose(layers, wanted["layers"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(pooled, wanted["pooled"], atol=1e-4, rtol=0)
    # With its attention mask over the padding the original finds the same.
    with torch.no_grad():
        mask = torch.from_numpy(np.arange(sizes.tokens) <= tokens.argmax(1)[:, None]).long()
        pooled = model.text_model(torch.from_numpy(tokens).long(), attention_mask=mask).pooler_output
        masked = model.text_projection(pooled).numpy()
    np.testing.assert_allclose(ClipEncoder(clip).encode_tokens(tokens), masked, atol=1e-4, rtol=0)
    if size == "tiny":  # PyTorch's own file instead of safetensors
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        again = read_clip("hf-clip", str(tmp_path))
        np.testing.assert_array_equal(again.params["image_projection"], clip.params["image_projection"])


@pytest.mark.slow
@pytest.mark.parametrize("end", [2, 50, 49407])
def test_the_end_token_of_hugging_face(end, tmp_path):
    """The 2 of old configs, one with added words after it, and the default where there are fewer words."""
    sizes = sizes_of("tiny")
    frames, tokens = inputs(sizes)
    tokens[0, 3] = tokens[1, 4] = tokens[1, 6] = 50
    model = originals.hugging_face(sizes, "gelu", end=end)
    originals.save_hugging_face(model, tmp_path / "theirs")
    clip = read_clip("hf-clip", str(tmp_path / "theirs"))
    save_clip(clip, tmp_path / "ours")
    for encoder in (ClipEncoder(clip), ClipEncoder(load_clip(tmp_path / "ours"))):
        wanted = originals.hugging_face_outputs(model, frames, tokens)
        assert_same(encoder, wanted, frames, tokens, of_length_1=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["heads of 64", "B/32"])
def test_openai_and_scenic(size, tmp_path):
    sizes = sizes_of(size)
    frames, tokens = inputs(sizes)
    model = originals.openai(sizes)
    wanted = originals.embeddings(model, frames, tokens)
    originals.save_openai(model, tmp_path / "clip.pt", frames, tokens)
    clip = read_clip("openai-clip", str(tmp_path / "clip.pt"))
    assert (clip.config.name == "ViT-B/32") == (size == "B/32")
    assert_same(ClipEncoder(clip), wanted, frames, tokens, of_length_1=False)
    originals.save_scenic(model, tmp_path / "clip.npy")
    scenic = read_clip("scenic-clip", str(tmp_path / "clip.npy"))
    assert_same(ClipEncoder(scenic), wanted, frames, tokens, of_length_1=False)

    with pytest.raises(UserError, match="a program: only --from openai-clip opens such"):
        read_torch(tmp_path / "clip.pt")
    whole = (tmp_path / "clip.pt").read_bytes()
    for wrong in (whole[: len(whole) // 2], b"", b"PK\x03\x04 no archive"):
        (tmp_path / "cut.pt").write_bytes(wrong)
        with pytest.raises(UserError, match="is damaged or no file of PyTorch's"):
            read_clip("openai-clip", str(tmp_path / "cut.pt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "quick_gelu", "custom_text"),
    [("tiny", True, False), ("tiny", False, True), ("B/32", True, False), ("B/32", False, False)],
)
def test_open_clip(size, quick_gelu, custom_text, tmp_path):
    sizes = sizes_of(size)
    frames, tokens = inputs(sizes)
    model = originals.open_clip(sizes, quick_gelu, custom_text)
    originals.save_open_clip(model, tmp_path, originals.open_clip_config(sizes, quick_gelu))
    clip = read_clip("open-clip", str(tmp_path))
    wanted = originals.embeddings(model, frames, tokens)
    assert_same(ClipEncoder(clip), wanted, frames, tokens, of_length_1=False)


def test_the_activation_of_every_openclip_config_is_understood():
    """quick_gelu is a word of the whole model there, and absent means GELU."""
    from open_clip import get_model_config

    for name, quick in (("ViT-B-32", False), ("ViT-B-32-quickgelu", True)):
        assert bool(get_model_config(name).get("quick_gelu")) is quick


def test_tokens_are_those_of_the_original():
    texts = ["a photo of a cat", "", "word " * 100, "Ünïcode & &amp; 42 dogs' it's"]
    np.testing.assert_array_equal(
        tokenize(texts, 77), originals.openai_package().tokenize(texts, truncate=True).numpy()
    )


def _pixels_apart(frame: np.ndarray) -> dict[str, float]:
    """Largest difference of normalised pixels between our preprocessing of a picture and the originals' of the same."""
    from open_clip import image_transform

    ours = originals.pixels(preprocess(frame, 224)[None])[0].numpy()
    picture = Image.fromarray(frame)
    hugging_face = transformers.CLIPImageProcessor()
    theirs = {
        "openai": originals.pixels(originals.preprocessed(frame, 224)[None])[0].numpy(),
        "open_clip": image_transform(224, is_train=False)(picture).numpy(),
        "hugging face": np.asarray(hugging_face(picture, return_tensors="np")["pixel_values"][0]),
    }
    return {name: float(np.abs(pixels - ours).max()) for name, pixels in theirs.items()}


@pytest.mark.slow
@pytest.mark.skipif(not VIDEOS.is_dir(), reason="no real videos here")
def test_preprocessing_of_real_pictures(tmp_path):
    """From video files and from shards of them: ours equals OpenAI's and open_clip's; Hugging Face's crops by another
    rounding. What JPEG changes is told and bounded."""
    videos = sorted(VIDEOS.glob("*.mp4"))
    row = {"start": 0.0, "end": 5.0, "text": "something", "split": "train", "duration": 9.0}
    rows = [{"video": video.name, **row} for video in videos]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build("jsonl", [tmp_path / "rows.jsonl"], VIDEOS, tmp_path / "shards", fps=1.0, workers=1)
    records = list(iterate_records(find_dataset(tmp_path / "shards"), "train", with_frames=True))
    assert {record.video_id for record in records} == {video.stem for video in videos}
    apart: dict[str, dict[str, float]] = {"file": {}, "shards": {}}
    by_jpeg = []
    for record in records:
        video = VIDEOS / f"{record.video_id}.mp4"
        info = probe(video)
        decoded = list(FrameStream(video, fps=1.0, short_side=min(info.width, info.height)))
        stored = [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in record.frames]
        assert len(decoded) == len(stored) > 5
        for place, frames in (("file", decoded), ("shards", stored)):
            for frame in frames:
                for name, most in _pixels_apart(frame).items():
                    apart[place][name] = max(apart[place].get(name, 0.0), most)
        for one, other in zip(decoded, stored):
            by_jpeg.append(np.abs(preprocess(one, 224).astype(int) - preprocess(other, 224)))
    levels = np.stack(by_jpeg)
    print(json.dumps(apart), f"JPEG: {levels.mean():.3f} of 255 levels on average, {levels.max()} at most")
    for of_place in apart.values():
        assert of_place["openai"] == 0 and of_place["open_clip"] < 1e-6 and of_place["hugging face"] < 0.05
    assert 0 < levels.mean() < 1.5


def test_a_picture_of_odd_sizes():
    for height, width in ((53, 70), (70, 53), (33, 33), (32, 45), (31, 200)):
        frame = np.resize(picture(), (height, width, 3))
        np.testing.assert_array_equal(preprocess(frame, 32), originals.preprocessed(frame, 32))
