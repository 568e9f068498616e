"""Job files, accelerators and environment files."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.accelerators import accelerator
from launch.job import load, read_env
from tests.tiny_runs import REPOSITORY
from unloc_jax.cli import _parser
from unloc_jax.errors import UserError

EXAMPLES = sorted((REPOSITORY / "launch/examples").glob("*.toml"))
ENV = REPOSITORY / "launch/env"
MINIMAL = 'name = "night"\ncommand = "unloc train"\naccelerator = "v5e:4x4"\n'


def write_job(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load(path):
    job = load(path)
    assert job.command[:2] == ("unloc", "train")
    config = next(word for word in job.command if word.startswith("--config=")).removeprefix("--config=")
    assert (REPOSITORY / config.partition(":")[0]).is_file()
    _, rest = _parser().parse_known_args(job.command[1:])
    assert all(word.startswith("--config.") for word in rest)


@pytest.mark.parametrize(
    "name, chips, hosts, gcloud, gke",
    [
        ("v5e:1x1", 1, 1, "v5litepod-1", "tpu-v5-lite-podslice"),
        ("v5e:2x4", 8, 1, "v5litepod-8", "tpu-v5-lite-podslice"),
        ("v5e:4x4", 16, 4, "v5litepod-16", "tpu-v5-lite-podslice"),
        ("v5e:16x16", 256, 64, "v5litepod-256", "tpu-v5-lite-podslice"),
        ("v6e:4x4", 16, 4, "v6e-16", "tpu-v6e-slice"),
        # These types are named by their TensorCores, two per chip.
        ("v5p:2x2x1", 4, 1, "v5p-8", "tpu-v5p-slice"),
        ("v5p:4x4x4", 64, 16, "v5p-128", "tpu-v5p-slice"),
        ("v4:2x2x4", 16, 4, "v4-32", "tpu-v4-podslice"),
        ("h100:8", 8, 1, None, "nvidia-h100-80gb"),
    ],
)
def test_names_of_the_clouds(name, chips, hosts, gcloud, gke):
    """As in Google's tables of TPU types."""
    found = accelerator(name)
    assert (found.chips, found.hosts, found.gcloud_type, found.gke_label) == (chips, hosts, gcloud, gke)


@pytest.mark.parametrize(
    "change, message",
    [
        (("v5e:4x4", "v5e:4x4x4"), "give a TPU and its topology"),
        (("v5e:4x4", "v5e-16"), "give a TPU and its topology"),
        (("v5e:4x4", "v5e:3x3"), "give a TPU and its topology"),
        (("night", "Night"), "use at most 32 of a-z"),
        (("name", "nane"), "unknown key nane"),
        (('command = "unloc train"', ""), "command is missing"),
        (("unloc train", "unloc train --workdir=gs://b/x"), "write /mnt/bucket/ instead of gs://"),
        (("unloc train", "unloc train --workdir=/mnt/bucket/x"), "there is no bucket"),
        (('"v5e:4x4"', '"v5e:4x4"\nslices = "2"'), "slices must be a int"),
        (('"v5e:4x4"', '"v5e:4x4"\nenv_file = "none.env"'), "there is no"),
        (('"v5e:4x4"', "v5e"), "Invalid value"),
        (('"v5e:4x4"', '"v5e:4x4"\nenv = {"A;touch x;B" = "1"}'), "'A;touch x;B': names have"),
        (('"v5e:4x4"', '"v5e:4x4"\nenv = {"" = "1"}'), "names have"),
        (('"v5e:4x4"', '"v5e:4x4"\nenv = {A = "1\\nEND_OF_RUN\\nid"}'), "env.A = .*one line"),
        (('"v5e:4x4"', '"v5e:4x4"\nenv = {A = true}'), "write a text or a number"),
        (('"v5e:4x4"', '"v5e:4x4"\nimage = "a\\u2028b"'), "image = .*one line"),
        (('"v5e:4x4"', '"v5e:4x4"\nslurm = {partition = "a\\nid"}'), "slurm.partition = .*one line"),
        (('"v5e:4x4"', '"v5e:4x4"\nslurm = {options = ["--a\\rid"]}'), "slurm.options = .*one line"),
        (('"v5e:4x4"', '"v5e:4x4"\ntpu_vm = {zone = "a\\nid"}'), "tpu_vm.zone = .*one line"),
        (("unloc train", "unloc train 'a\\nEND_OF_RUN\\nid'"), "command = .*one line"),
        (("unloc train", "unloc train 'a"), "command: no closing quotation"),
        (('"v5e:4x4"', '"v5e:4x4"\nconstraints = "none.txt"'), "constraints = none.txt: .*No such file"),
    ],
)
def test_mistakes_in_a_job_file_are_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        load(write_job(tmp_path, MINIMAL.replace(*change)))


def test_a_name_that_comes_again_adds_to_its_value(tmp_path):
    path = tmp_path / "some.env"
    path.write_text("# flags\nFLAGS=--a=1\n\nFLAGS=--b=x=2\nOTHER=word\n")
    assert read_env(path) == {"FLAGS": "--a=1 --b=x=2", "OTHER": "word"}
    path.write_text("export A=1\n")
    with pytest.raises(UserError, match="line 1"):
        read_env(path)


def test_setup_may_have_several_lines(tmp_path):
    text = MINIMAL + '[slurm]\nsetup = """\nmodule load a\nsource b\n"""\n'
    assert load(write_job(tmp_path, text)).platform["slurm"]["setup"] == "module load a\nsource b\n"


def test_versions_are_those_of_this_environment_or_of_a_file(tmp_path):
    pins = load(write_job(tmp_path, MINIMAL)).constraints.splitlines()
    assert f"jax=={importlib.metadata.version('jax')}" in pins
    assert not any(pin.startswith("unloc") or "+" in pin for pin in pins)
    (tmp_path / "pins.txt").write_text("jax==0.10.0\n")
    given = MINIMAL + 'constraints = "pins.txt"\n'
    assert load(write_job(tmp_path, given)).constraints == "jax==0.10.0\n"


def accepted(program: str, **variables: str) -> subprocess.CompletedProcess:
    clean = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        env=clean | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_flags_for_gpus_are_known_to_the_compiler():
    """jaxlib for CPUs knows the names of GPU flags too."""
    program = "import jax; jax.devices()"
    flags = read_env(ENV / "gpu.env")["XLA_FLAGS"]
    assert accepted(program, XLA_FLAGS=flags).returncode == 0
    refused = accepted(program, XLA_FLAGS=f"{flags} --xla_gpu_graph_level=0")  # there was one
    assert refused.returncode != 0 and "Unknown flag in XLA_FLAGS: --xla_gpu_graph_level" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is not installed")
def test_flags_for_tpus_are_known_to_the_compiler():
    program = (
        "from jax.experimental import topologies as t\n"
        "t.get_topology_desc(platform='tpu', topology_name='v5e:4x4')"
    )
    without_tpu = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    variables = read_env(ENV / "tpu.env")
    assert "XLA_FLAGS" not in variables  # xla_tpu_* there end every program
    flags = variables["LIBTPU_INIT_ARGS"]
    done = accepted(program, LIBTPU_INIT_ARGS=flags, **without_tpu)
    assert done.returncode == 0, done.stderr
    refused = accepted(program, LIBTPU_INIT_ARGS=f"{flags} --xla_tpu_no_such_flag=true", **without_tpu)
    assert refused.returncode != 0 and "xla_tpu_no_such_flag" in refused.stderr


@pytest.mark.parametrize(
    "line",
    [
        'command = "unloc train --config.data.dir=$SCRATCH/data"',
        'command = "unloc train --workdir ${HOME}/runs"',
        'command = "unloc train --workdir=~/runs"',
        'command = "unloc train --workdir ~"',
        'command = "unloc features --clip=hf-clip:~someone/clip"',
        'env = { HF_HOME = "$SCRATCH/hf" }',
        'env = { HF_HOME = "~/hf" }',
        'env = { PYTHONPATH = "/a:~/b" }',
    ],
)
def test_what_no_shell_fills_in_is_refused(tmp_path, line):
    text = MINIMAL if line.startswith("env") else MINIMAL.replace('command = "unloc train"\n', "")
    with pytest.raises(
        UserError, match=r"job\.toml: (command|env): .* is not filled in on the machines: write out"
    ):
        load(write_job(tmp_path, text + line + "\n"))


def test_dollars_and_tildes_that_no_shell_would_fill_in_stay(tmp_path):
    line = (
        """command = "unloc predict --text 'it costs $5, ~10 %' --video=/a/~b.mp4"\nenv = { A = "50$" }\n"""
    )
    job = load(write_job(tmp_path, MINIMAL.replace('command = "unloc train"\n', "") + line))
    assert job.command[3:] == ("it costs $5, ~10 %", "--video=/a/~b.mp4") and job.env["A"] == "50$"
