"""Measures the share of a build's CPU time that decoding takes: `python benchmarks/build.py [VIDEO…]`.

Compares the CPU time of `unloc data build` (10 frames per second, short side 256, one worker) with that of a loop that
only decodes the same videos with PyAV on one thread, in the same run. One-off costs of a build (starting a process,
importing TensorFlow) cancel out: builds of many copies and of few are subtracted. Without arguments the video is a
synthetic one of 1280×720 pixels.
"""

import contextlib
import io
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from data_pipelines.build import build

RUNS = 5
FEW, MANY = 2, 12  # copies of each video


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = [Path(argument).resolve() for argument in sys.argv[1:]] or [
            _camera_pan(folder / "camera_pan_720p.mp4")
        ]
        print(f"CPU seconds, median of {RUNS} runs, PyAV {av.__version__}, {os.cpu_count()} CPUs")
        print(f"{'':<32}{'frames/s':>10}{'bare loop':>11}{'build':>9}{'share':>8}{'  (lowest to highest)'}")
        for video in videos:
            _measure(folder, video)


def _measure(folder: Path, video: Path) -> None:
    few, many = (_inputs(folder / f"{video.stem}_{copies}", video, copies) for copies in (FEW, MANY))
    _build(*few)  # imports TensorFlow, fills the file cache
    bare_s, build_s = [], []
    frames = 0
    for _ in range(RUNS):
        bare, frames = _cpu_s(lambda: _decode(video))
        bare_s.append(bare)
        build_s.append((_cpu_s(lambda: _build(*many))[0] - _cpu_s(lambda: _build(*few))[0]) / (MANY - FEW))
    shares = sorted(bare / built for bare, built in zip(bare_s, build_s, strict=True))
    bare, built = statistics.median(bare_s), statistics.median(build_s)
    print(
        f"{video.name[:30]:<32}{frames / bare:>10.0f}{bare:>11.3f}{built:>9.3f}{statistics.median(shares):>8.0%}"
        f"  ({shares[0]:.0%} to {shares[-1]:.0%})"
    )


def _camera_pan(path: Path) -> Path:
    """Writes 10 s of H.264, 1280×720 at 30 frames per second: a camera pan over a texture, with film grain."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (60, 100, 3)).astype(np.uint8)
    scene = np.asarray(Image.fromarray(texture).resize((1600, 960), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-4, 5, (8, 720, 1280, 1), np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for k in range(300):
            seen = scene[k // 2 : k // 2 + 720, k : k + 1280] + grain[k % 8]
            frame = av.VideoFrame.from_ndarray(seen.clip(0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _inputs(folder: Path, video: Path, copies: int) -> tuple[Path, Path]:
    """Writes an annotation file and a folder of links to the video under several names; returns both paths."""
    (folder / "videos").mkdir(parents=True)
    ids = [f"copy_{i}" for i in range(copies)]
    for video_id in ids:
        (folder / "videos" / f"{video_id}{video.suffix}").symlink_to(video)
    annotated = {"duration": 10.0, "timestamps": [[0.0, 5.0]], "sentences": ["something happens"]}
    (folder / "train.json").write_text(json.dumps(dict.fromkeys(ids, annotated)))
    return folder / "train.json", folder / "videos"


def _build(annotations: Path, videos: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=annotations.parent) as out,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        build("activitynet_captions", [annotations], videos, out, workers=1)


def _decode(video: Path) -> int:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def _cpu_s(work: Callable) -> tuple[float, int]:
    """Returns (CPU seconds of this process and of the children that ended meanwhile, the result of `work`)."""
    before = _used_s()
    result = work()
    return _used_s() - before, result


def _used_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
