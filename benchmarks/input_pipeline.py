"""Times reading frames from shards: `python benchmarks/input_pipeline.py [--video FILE]`.

Reads 128 of 512 stored frames of every video at 224², from JPEGs with a short side of 256. All rows read the same
pictures from the same MediaSequence shards, in turns, on all cores of this machine:

  bare loop    decode-and-crop of the chosen JPEGs, already in memory, one thread per core: the upper limit.
  reference    a DMVR-style pipeline (Scenic's UnLoc): parse the SequenceExample, gather the chosen frames, decode them
               whole, resize (here: nothing to do), crop, convert to float32, batch.
  this one     `data_pipelines.reading.input_pipeline`, through `data.format=mediasequence` and through `unloc` shards.
  grain        `data_pipelines.reading.grain_pipeline`, the reader without TensorFlow, through `unloc` shards.
"""

import argparse
import io
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from data_pipelines.reading import grain_pipeline, input_pipeline
from data_pipelines.reading.example import ExampleSpec
from data_pipelines.reading.mediasequence import MediaSequenceIndex
from data_pipelines.reading.record_index import RecordIndex
from data_pipelines.reading.rows import Source
from unloc_jax.config import DataConfig, MediaSequenceConfig
from unloc_jax.paths import ArgumentParser
from unloc_jax.sampling import linspace_indices
from unloc_jax.video import FrameStream

STORED, CHOSEN, SIZE, SHORT_SIDE, FPS = 512, 128, 224, 256, 10.0
BATCH, EPOCHS, ROUNDS = 4, 4, 5


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="take the pictures from this file (default: made up)")
    parser.add_argument("--videos", type=int, default=16, help="on disk; read 4 times per round (default 16)")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs (default 95, as the builder)")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    jpegs = pictures(arguments.video, arguments.quality)
    with tempfile.TemporaryDirectory() as folder:
        count = arguments.videos
        media, ours = Path(folder) / "media-train.tfrecord", Path(folder) / "ours-train.tfrecord"
        write_media(media, jpegs, count)
        write_ours(ours, jpegs, count)
        sequence = MediaSequenceIndex.from_files("train", [media], config=MediaSequenceConfig(fps=FPS))
        unloc = RecordIndex.from_files("train", [ours])
        rows: dict[str, Callable[[], int]] = {
            "bare loop": lambda: bare_loop(jpegs, EPOCHS * count, cores),
            "reference": lambda: drain(reference_pipeline(media, cores)),
            "this one, mediasequence": lambda: drain(our_pipeline(sequence, count, cores)),
            "this one": lambda: drain(our_pipeline(unloc, count, cores)),
            "grain": lambda: drain(our_pipeline(unloc, count, cores, reader=grain_pipeline)),
        }
        for run in rows.values():
            run()  # warms up caches and programs
        speeds: dict[str, list[float]] = {name: [] for name in rows}
        cpu_ms: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(ROUNDS):
            for name, run in rows.items():
                began, cpu = time.perf_counter(), time.process_time()
                frames = run()
                speeds[name].append(frames / (time.perf_counter() - began))
                cpu_ms[name].append(1000 * (time.process_time() - cpu) / frames)
        size = statistics.mean(map(len, jpegs))
        print(f"{cores} cores, {count} videos, JPEGs of {size / 1000:.1f} kB, medians of {ROUNDS} rounds")
        print(f"{'':<26}{'frames/s':>10}{'ms CPU/frame':>14}{'of the limit':>14}{'× reference':>13}")
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        for name, speed in medians.items():
            print(
                f"{name:<26}{speed:>10.0f}{statistics.median(cpu_ms[name]):>14.3f}"
                f"{speed / medians['bare loop']:>14.0%}{speed / medians['reference']:>13.2f}"
            )
        print("\nmemory over an epoch of 8 × these videos (resident MB):")
        print("  " + "  ".join(f"{mb:.0f}" for mb in memory_curve(unloc, count, cores)))


def pictures(video: Path | None, quality: int) -> list[bytes]:
    """Returns STORED JPEGs: of a video (repeated if it is short), or of moving smooth noise with some grain."""
    frames: list[np.ndarray] = []
    if video is not None:
        for frame in FrameStream(video, fps=FPS, short_side=SHORT_SIDE):
            frames.append(frame)
            if len(frames) == STORED:
                break
    else:
        rng = np.random.default_rng(0)
        coarse = Image.fromarray(rng.integers(0, 256, (40, 90, 3), np.uint8))
        scene = np.asarray(coarse.resize((1024, 455), Image.Resampling.BICUBIC), np.int16)
        for i in range(64):
            part = scene[i : i + SHORT_SIDE, 2 * i : 2 * i + 455]
            frames.append(np.clip(part + rng.normal(0, 4, part.shape), 0, 255).astype(np.uint8))
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
        encoded.append(buffer.getvalue())
    return [encoded[i % len(encoded)] for i in range(STORED)]


def write_media(file: Path, jpegs: list[bytes], count: int) -> None:
    of_bytes = lambda *values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    of_ints = lambda *values: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    with tf.io.TFRecordWriter(str(file)) as writer:
        for i in range(count):
            context = {
                "clip/media_id": of_bytes(f"v{i}".encode()),
                "clip/frames": of_ints(STORED),
                "segment/start/index": of_ints(10),
                "segment/end/index": of_ints(60),
                "segment/label/string": of_bytes(b"someone moves"),
            }
            frames = tf.train.FeatureList(feature=[of_bytes(jpeg) for jpeg in jpegs])
            example = tf.train.SequenceExample(
                context=tf.train.Features(feature=context),
                feature_lists=tf.train.FeatureLists(feature_list={"image/encoded": frames}),
            )
            writer.write(example.SerializeToString())


def write_ours(file: Path, jpegs: list[bytes], count: int) -> None:
    of_bytes = lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    of_floats = lambda *values: tf.train.Feature(float_list=tf.train.FloatList(value=values))
    with tf.io.TFRecordWriter(str(file)) as writer:
        for i in range(count):
            features = {
                "video_id": of_bytes([f"v{i}".encode()]),
                "duration_s": of_floats(STORED / FPS),
                "fps": of_floats(FPS),
                "segments_s": of_floats(1.0, 6.0),
                "texts": of_bytes([b"someone moves"]),
                "attributes": of_bytes([b"{}"]),
                "frames": of_bytes(jpegs),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def bare_loop(jpegs: list[bytes], count: int, cores: int) -> int:
    chosen = [tf.constant(jpegs[i]) for i in linspace_indices(STORED, CHOSEN)]
    width = Image.open(io.BytesIO(jpegs[0])).size[0]
    window = tf.constant([(SHORT_SIDE - SIZE) // 2, (width - SIZE) // 2, SIZE, SIZE])

    def decode() -> None:
        for _ in range(count // cores):
            for jpeg in chosen:
                tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method="INTEGER_ACCURATE")

    threads = [threading.Thread(target=decode) for _ in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count // cores * cores * CHOSEN


def reference_pipeline(file: Path, cores: int):
    def load(serialized):
        _, lists = tf.io.parse_single_sequence_example(
            serialized, sequence_features={"image/encoded": tf.io.FixedLenSequenceFeature([], tf.string)}
        )
        encoded = lists["image/encoded"]
        places = tf.cast(
            tf.round(tf.linspace(0.0, tf.cast(tf.shape(encoded)[0] - 1, tf.float32), CHOSEN)), tf.int32
        )
        frames = tf.map_fn(
            lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3),
            tf.gather(encoded, places),
            fn_output_signature=tf.uint8,
        )
        frames = tf.image.random_crop(frames, [CHOSEN, SIZE, SIZE, 3])
        return tf.cast(frames, tf.float32) / 255.0

    dataset = tf.data.TFRecordDataset(str(file)).repeat(EPOCHS).map(load, num_parallel_calls=cores)
    options = tf.data.Options()
    options.threading.private_threadpool_size = cores
    yield from (
        dataset.batch(BATCH, drop_remainder=True).prefetch(2).with_options(options).as_numpy_iterator()
    )


def our_pipeline(index: RecordIndex, count: int, cores: int, epochs: int = EPOCHS, reader=input_pipeline):
    config = DataConfig(num_frames=CHOSEN, crop_size=SIZE, num_workers=cores)
    source = Source(index, ExampleSpec(config, 32, None))
    steps = epochs * count // BATCH
    batches = reader.training_batches(source, seed=0, batch_size=BATCH, start_step=0, num_steps=steps)
    return (batch.frames for batch in batches)


def drain(batches) -> int:
    return sum(batch.shape[0] * batch.shape[1] for batch in batches)


def memory_curve(index: RecordIndex, count: int, cores: int) -> list[float]:
    page = resource.getpagesize()
    curve = []
    for i, _ in enumerate(our_pipeline(index, count, cores, epochs=8)):
        if i % max(1, 8 * count // BATCH // 10) == 0:
            curve.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6)
    return curve


if __name__ == "__main__":
    main()
