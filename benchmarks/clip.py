"""Times embedding against the original implementations: `python benchmarks/clip.py [--size B/32 SigLIP2-B/16 PE-B/16]`.

B/32, B/16 and L/14 are CLIPs, beside transformers and open_clip; SigLIP 2 is beside transformers, PE-Core beside
open_clip.

All implementations have the same random weights and run in one process on the same inputs and devices, in alternating
rounds: in float32 on a CPU, in bfloat16 on a GPU that both JAX and PyTorch see. Needs the extra `oracle`.

images/s and texts/s are for one batch in the form that each implementation expects (ours also normalises the pixels on
the device). frames/s are for a video file: decoding, the model's preprocessing and embedding. The originals use the
usual loop: PyAV decodes the same frames of the same file, the package's own transform, batch after batch. "ours is"
compares wall time, "CPU" the processor time of all threads, which other programs on the machine affect less.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unloc_jax.paths import ArgumentParser

# PyTorch's idle threads would spin on a core that another program could use.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import av
import jax
import jax.numpy as jnp
import numpy as np
import torch
from open_clip import image_transform
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' makers of original models

from tests.pretrained import clip_originals as originals
from tests.pretrained import picture_text_originals as picture_text
from unloc_jax.features.embed_videos import embed_video
from unloc_jax.features.families import open_encoder
from unloc_jax.video import FrameStream

CLIPS = {
    "B/32": originals.SIZES["B/32"],
    "B/16": (768, 12, 12, 16, 224, 512, 12, 8, 77, 49408, 512),
    "L/14": (1024, 24, 16, 14, 224, 768, 12, 12, 77, 49408, 768),
}
# With fewer words than the published ones, whose number does not matter for the time.
SIGLIPS = {
    "SigLIP2-B/16": {
        "width": 768, "layers": 12, "heads": 12, "mlp": 3072, "patch": 16, "size": 224, "text_width": 768,
        "text_layers": 12, "text_heads": 12, "text_mlp": 3072, "tokens": 64, "words": 32000,
    },
    "SigLIP2-L/16": {
        "width": 1024, "layers": 24, "heads": 16, "mlp": 4096, "patch": 16, "size": 256, "text_width": 1024,
        "text_layers": 24, "text_heads": 16, "text_mlp": 4096, "tokens": 64, "words": 32000,
    },
}  # fmt: skip
PES = {
    "PE-B/16": {
        "width": 768, "layers": 12, "heads": 12, "patch": 16, "size": 224, "text_width": 1024, "text_layers": 24,
        "text_heads": 16, "tokens": 32, "words": 49408, "embedding": 1024,
    },
    "PE-L/14": {
        "width": 1024, "layers": 24, "heads": 16, "patch": 14, "size": 336, "text_width": 1024, "text_layers": 24,
        "text_heads": 16, "tokens": 32, "words": 49408, "embedding": 1024,
        "architecture": "vit_pe_core_large_patch14_336",
    },
}  # fmt: skip
SIZES = (*CLIPS, *SIGLIPS, *PES)
FPS, VIDEO_S = 4.0, 8
PEERS = ("transformers", "open_clip")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["B/32", "B/16"], choices=SIZES)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--video", type=Path, help="(default: 8 s of 640×360 at 25 frames/s, made now)")
    arguments = parser.parse_args()
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    dtype = "bfloat16" if on_gpu else "float32"
    print(
        f"{jax.devices()[0].device_kind}, {dtype}, batches of {arguments.batch_size}, medians of "
        f"{arguments.rounds} rounds; jax {jax.__version__}, torch {torch.__version__} "
        f"({torch.get_num_threads()} threads)"
    )
    print(
        f"{'':<22}{'ours':>10}"
        + "".join(f"{name:>14}{'ours is':>9}{'(rounds)':>13}{'CPU':>7}" for name in PEERS)
    )
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video or make_video(Path(folder) / "video.mp4")
        for name in arguments.size:
            runs, counts = competitors(name, arguments.batch_size, video, dtype, Path(folder))
            for what, of_what in runs.items():
                seconds = rounds(of_what, arguments.rounds)
                print_row(f"{name} {what}/s", counts[what], seconds)


def competitors(
    name: str, batch_size: int, video: Path, dtype: str, folder: Path
) -> tuple[dict[str, dict[str, Callable[[], Any]]], dict[str, int]]:
    """Returns the calls to time, by kind of input and implementation, and the inputs per call of each kind."""
    made = next(make for sizes, make in MAKERS if name in sizes)(name, folder / name)
    ours = open_encoder(made.source, jnp.dtype(dtype), batch_size)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (batch_size, ours.image_size, ours.image_size, 3), np.uint8)
    tokens = made.tokens(rng, batch_size)
    device = "cuda" if dtype == "bfloat16" else "cpu"
    kind = getattr(torch, dtype)
    for model in made.models:
        model.to(device, kind)
    pixels, transform = made.pixels(frames).to(device, kind), made.transform
    words = torch.from_numpy(tokens).long().to(device)

    def of_tensor(encode: Callable, x: Any) -> Callable[[], Any]:
        def run() -> np.ndarray:
            with torch.inference_mode():
                out = encode(x)
                return getattr(out, "pooler_output", out).float().cpu().numpy()

        return run

    def of_video(encode: Callable) -> Callable[[], Any]:
        def run() -> np.ndarray:
            made = []
            for batch in batched(decoded(video), batch_size):
                x = torch.stack([transform(Image.fromarray(frame)) for frame in batch]).to(device, kind)
                made.append(of_tensor(encode, x)())
            return np.concatenate(made)

        return run

    runs: dict[str, dict[str, Callable[[], Any]]] = {
        "images": {"ours": lambda: ours.encode_images(frames)},
        "texts": {"ours": lambda: ours.encode_tokens(tokens)},
        "frames": {"ours": lambda: embed_video(ours, video, FPS).features},
    }
    for peer, (of_image, of_text) in made.peers.items():
        runs["images"][peer] = of_tensor(of_image, pixels)
        runs["texts"][peer] = of_tensor(of_text, words)
        runs["frames"][peer] = of_video(of_image)
    for what, of_what in runs.items():  # compiles, and checks that both compute the same
        found, wanted = of_what["ours"](), of_what[next(iter(made.peers))]()
        apart = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert apart < (0.1 if dtype == "bfloat16" else 1e-4), f"{what}: {apart} apart"
    return runs, {"images": batch_size, "texts": batch_size, "frames": sum(1 for _ in decoded(video))}


@dataclasses.dataclass(frozen=True)
class Made:
    """A model of the originals, saved such that ours reads it.

    Attributes:
      source: For `open_encoder`.
      models: PyTorch's modules.
      peers: By implementation, what embeds pixels and what embeds tokens.
      tokens: Makes a batch of N texts, int32 [N, L].
      pixels: Normalises frames uint8 [N, H, W, 3] as the models expect them.
      transform: The original's preprocessing of a picture.
    """

    source: str
    models: tuple[Any, ...]
    peers: dict[str, tuple[Callable, Callable]]
    tokens: Callable[[np.random.Generator, int], np.ndarray]
    pixels: Callable[[np.ndarray], Any]
    transform: Callable[[Any], Any]


def of_transformers(model: Any) -> tuple[Callable, Callable]:
    return (
        lambda x: model.get_image_features(pixel_values=x),
        lambda x: model.get_text_features(input_ids=x),
    )


def texts_of_clip(words: int, length: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        tokens = rng.integers(1, words - 2, (count, length)).astype(np.int32)
        end = min(30, length - 2)
        tokens[:, 0], tokens[:, end], tokens[:, end + 1 :] = words - 2, words - 1, 0
        return tokens

    return make


def make_clip(name: str, folder: Path) -> Made:
    originals.SIZES[name] = CLIPS[name]
    sizes = originals.sizes_of(name)
    hugging_face = originals.hugging_face(sizes, "quick_gelu")
    originals.save_hugging_face(hugging_face, folder)
    open_clip = originals.open_clip(sizes, quick_gelu=True)
    peers = {
        "transformers": of_transformers(hugging_face),
        "open_clip": (open_clip.encode_image, open_clip.encode_text),
    }
    return Made(
        f"hf-clip:{folder}", (hugging_face, open_clip), peers, texts_of_clip(sizes.words, sizes.tokens),
        originals.pixels, image_transform(sizes.pixels, is_train=False),
    )  # fmt: skip


def squashed(size: int) -> Callable[[Any], Any]:
    """The transform of SigLIP 2 and PE-Core."""
    half = (0.5, 0.5, 0.5)
    return image_transform(
        size, is_train=False, mean=half, std=half, resize_mode="squash", interpolation="bilinear"
    )


def make_siglip(name: str, folder: Path) -> Made:
    sizes = SIGLIPS[name]
    model = picture_text.siglip(**sizes)
    picture_text.save_siglip(model, folder)
    tokens = lambda rng, count: rng.integers(5, sizes["words"], (count, sizes["tokens"])).astype(np.int32)
    return Made(
        f"siglip2:{folder}", (model,), {"transformers": of_transformers(model)}, tokens, picture_text.pixels,
        squashed(sizes["size"]),
    )  # fmt: skip


def make_pe(name: str, folder: Path) -> Made:
    sizes = PES[name]
    model = picture_text.pe_core(**sizes)
    named = {"architecture": sizes["architecture"]} if "architecture" in sizes else {}
    picture_text.save_pe(model, folder, sizes["text_heads"], **named)
    return Made(
        f"pe:{folder}", (model,), {"open_clip": (model.encode_image, model.encode_text)},
        texts_of_clip(sizes["words"], sizes["tokens"]), picture_text.pixels, squashed(sizes["size"]),
    )  # fmt: skip


MAKERS = ((CLIPS, make_clip), (SIGLIPS, make_siglip), (PES, make_pe))


def decoded(video: Path) -> Iterator[np.ndarray]:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        side = min(stream.width, stream.height)
    return iter(FrameStream(video, fps=FPS, short_side=side, offset=0.5))


def batched(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def rounds(runs: dict[str, Callable[[], Any]], count: int) -> dict[str, np.ndarray]:
    """Returns float64 [count, 2], wall and CPU seconds of each round, by implementation; the first one rotates."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for i in range(count):
        names = list(runs)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            began = time.perf_counter(), time.process_time()
            runs[name]()
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: np.array(of_one) for name, of_one in seconds.items()}


def print_row(title: str, count: int, seconds: dict[str, np.ndarray]) -> None:
    speed = {name: count / np.median(of_one[:, 0]) for name, of_one in seconds.items()}
    row = f"{title:<22}{speed['ours']:>10.1f}"
    for name in PEERS:
        if name not in seconds:
            row += f"{'–':>14}{'':>29}"
            continue
        wall, cpu = (seconds[name] / seconds["ours"]).T
        low, high = np.quantile(wall, (0.25, 0.75))
        row += f"{speed[name]:>14.1f}{np.median(wall):>8.2f}×{f'({low:.2f}–{high:.2f})':>13}{np.median(cpu):>6.2f}×"
    print(row, flush=True)


def make_video(path: Path) -> Path:
    """Writes a video of a moving pattern."""
    y, x = np.mgrid[:360, :640]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i in range(VIDEO_S * 25):
            picture = np.stack([(x + 5 * i) % 256, (y + 3 * i) % 256, (x + y) % 256], -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
