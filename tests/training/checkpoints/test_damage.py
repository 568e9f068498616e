"""Damage anywhere in a checkpoint: whoever reads it refuses with one line, or gets the numbers that were saved."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.tiny import tiny_config, tiny_metadata
from unloc_jax.errors import UserError
from unloc_jax.training.checkpoints.reading import load_checkpoint, load_params
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.init_from import _load_all
from unloc_jax.training.state import TrainState

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
BY_TASK = {"moment_retrieval": tiny_metadata().to_dict()}


def _state(step: int) -> TrainState:
    """Few arrays, for speed; the large ones have files of their own, outside of tensorstore's checksummed index."""
    rng = np.random.default_rng(step)
    params = {"dense": {"kernel": rng.normal(size=(40, 160)).astype(np.float32)}, "scale": np.float32(step)}
    halved = jax.tree.map(lambda x: (x / 2).astype(x.dtype), params)
    return jax.tree.map(jax.numpy.asarray, TrainState(np.int32(step), params, {"mu": halved}, halved))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, TrainState]:
    """(workdir with checkpoints of steps 3 and 6, shapes of their state)."""
    workdir = tmp_path_factory.mktemp("damage") / "run"
    with Checkpoints(workdir, tiny_config(), BY_TASK) as checkpoints:
        for step in (3, 6):
            checkpoints.save(_state(step), step, {"productive_s": step + 0.5})
    of = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    return workdir, jax.tree.map(of, _state(6))


def _readers(shapes: TrainState) -> dict[str, Callable[[Path], Any]]:
    """By what a user does: reads all that this takes of a step's directory."""

    def resume(step_dir: Path) -> Any:
        checkpoints = Checkpoints(step_dir.parents[1], tiny_config(), BY_TASK)
        assert checkpoints.latest_step == 6
        return checkpoints.restore(shapes), checkpoints.history

    return {
        "predict": lambda step_dir: (load_checkpoint(step_dir), load_params(step_dir, shapes.params)),
        "init_from": lambda step_dir: (load_checkpoint(step_dir)[0], _load_all(step_dir)),
        "resume": resume,
    }


def _same(a: Any, b: Any) -> bool:
    a, b = jax.tree.flatten(a), jax.tree.flatten(b)
    return a[1] == b[1] and all(np.array_equal(x, y) for x, y in zip(a[0], b[0], strict=True))


def _damages(data: bytes, rng: np.random.Generator, flips: int) -> Iterator[tuple[str, bytes | None]]:
    yield "missing", None
    yield "empty", b""
    yield "cut", data[: len(data) // 2]
    yield "end cut", data[:-1]
    block = int(rng.integers(len(data)))
    yield "a block of zeros", data[:block] + bytes(len(data[block : block + 512])) + data[block + 512 :]
    for bit in rng.integers(8 * len(data), size=flips):
        place, mask = divmod(int(bit), 8)
        yield (
            f"bit {mask} of byte {place}",
            data[:place] + bytes([data[place] ^ 1 << mask]) + data[place + 1 :],
        )


def _kind(file: Path, step_dir: Path) -> str:
    """Files of arrays have random names."""
    return "/".join("*" if len(part) == 32 else part for part in file.relative_to(step_dir).parts)


@pytest.mark.parametrize("use", ["predict", "init_from", "resume"])
def test_other_numbers_are_never_read(saved, tmp_path, use, flips=4):
    template, shapes = saved
    read = _readers(shapes)[use]
    workdir = Path(shutil.copytree(template, tmp_path / "run"))
    step_dir = workdir / "checkpoints" / "6"
    expected = read(step_dir)
    files = sorted(file for file in step_dir.rglob("*") if file.is_file())
    assert len(files) > 10
    rng, refused = np.random.default_rng(0), set()
    for file in files:
        data, kind = file.read_bytes(), _kind(file, step_dir)
        for damage, damaged in _damages(data, rng, flips):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            try:
                found = read(step_dir)
            except UserError as error:
                refused.add(kind)
                assert "\n" not in str(error), (kind, damage)
                older = f"An older one is whole: {step_dir.with_name('3').resolve()}; delete the damaged one"
                assert older in str(error), (kind, damage, str(error))
            else:
                assert _same(found, expected), (kind, damage)
            file.write_bytes(data)
    assert {"metadata/metadata", "state/_METADATA", "state/manifest.ocdbt"} <= refused


def _flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_a_checksum_cannot_be_damaged_away(saved, tmp_path):
    """Without one a checkpoint is old and not checked: no flipped bit in its key or value may lead there."""
    template, _ = saved
    step_dir = Path(shutil.copytree(template, tmp_path / "run")) / "checkpoints" / "6"
    expected = load_checkpoint(step_dir)
    file = step_dir / "metadata" / "metadata"
    data = file.read_bytes()
    for place in range(data.index(b'"checksum"'), len(data)):
        _flip(file, place)
        try:
            assert load_checkpoint(step_dir) == expected  # a blank that became another
        except UserError as error:
            assert "the checkpoint is damaged" in str(error)
        else:
            assert data[place : place + 1].isspace()
        file.write_bytes(data)


def test_only_a_whole_one_is_named(saved, tmp_path):
    template, _ = saved
    steps = Path(shutil.copytree(template, tmp_path / "run")).resolve() / "checkpoints"
    shutil.copytree(steps / "3", steps / "4")
    largest = max((steps / "4" / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    _flip(largest, 5000)
    _flip(steps / "6" / "metadata" / "metadata", 500)
    with pytest.raises(UserError, match=f"whole: {steps / '3'}; delete the 2 newer ones to continue"):
        load_checkpoint(steps / "6")
    _flip(steps / "3" / "metadata" / "metadata", 500)
    with pytest.raises(UserError, match=r"No older one is whole\.$"):
        load_checkpoint(steps / "6")


@pytest.mark.slow
def test_the_commands(trained, captions_dataset, config_file, tiny_videos, tmp_path, unloc):
    """A real run: all commands refuse with one line that names the older checkpoint."""
    workdir = Path(shutil.copytree(trained, tmp_path / "run")).resolve()
    older, newest = workdir / "checkpoints" / "3", workdir / "checkpoints" / "5"
    shutil.rmtree(newest.with_name("10"))  # training is not finished
    shutil.copytree(newest, older)
    data_dir = f"data.dir={captions_dataset}"
    commands = (
        ("train", f"--config={config_file}", f"--workdir={workdir}", f"--config.{data_dir}"),
        ("evaluate", f"--checkpoint={workdir}", f"--data-dir={captions_dataset}"),
        (
            "predict",
            f"--checkpoint={workdir}",
            f"--video={tiny_videos / 'videos' / 'test_00000.mp4'}",
            "--text=a",
        ),
    )
    largest = max((newest / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    metadata = newest / "metadata" / "metadata"
    fps = metadata.read_bytes().index(b'"fps": 5') + len(
        '"fps": '
    )  # 4 frames per second would be other facts
    damages = (
        (largest, lambda file: file.unlink()),
        (largest, lambda file: file.write_bytes(file.read_bytes()[:1000])),
        (metadata, lambda file: _flip(file, fps)),
    )
    for file, damage in damages:
        data = file.read_bytes()
        damage(file)
        for command in commands:
            told = unloc(*command).error()
            assert str(newest) in told and f"whole: {older}; delete" in told, command
        file.write_bytes(data)
