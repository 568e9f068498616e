"""Job: the description of a training job for all launchers, read from one TOML file."""

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

from launch.accelerators import Accelerator, accelerator
from unloc_jax.errors import UserError
from unloc_jax.paths import VARIABLE, path_of

BUCKET_DIR = "/mnt/bucket"  # where machines mount the job's bucket
_ENV_DIR = Path(__file__).with_name("env")
# A home folder as a shell recognises it: at the start, or after "--workdir=" and in "PATH=a:b".
_HOME = re.compile(r"(?:^|[=:])(~[\w.-]*)(?:/|$)")
_PLATFORMS = ("tpu_vm", "gke", "slurm", "skypilot")


@dataclasses.dataclass(frozen=True)
class Job:
    """A command and the machines to run it on. docs/launch.md explains the file's keys, which have these names.

    Attributes:
      name: of the job and of its resources in a cloud.
      command: words; paths are those on the machines, such as /mnt/bucket/runs/NAME. No shell expands them: variables
        and `~` are refused.
      accelerator: of one slice, or of one GPU machine.
      slices: number of slices or GPU machines.
      spot: use cheaper machines that can be taken away at any time.
      bucket: name of the Cloud Storage bucket that is mounted at BUCKET_DIR; None if there is none.
      image: container image; None if none is used.
      env: environment variables: those of the accelerator's file in launch/env/, and the job's own.
      max_restarts: after failures; preemptions do not count.
      platform: the tables [tpu_vm], [gke], [slurm] and [skypilot].
    """

    name: str
    command: tuple[str, ...]
    accelerator: Accelerator
    slices: int
    spot: bool
    bucket: str | None
    image: str | None
    env: dict[str, str]
    max_restarts: int
    platform: dict[str, dict[str, Any]]

    @property
    def hosts(self) -> int:
        """Returns the number of machines, each of which runs one process."""
        return self.slices * self.accelerator.hosts

    @property
    def shell_command(self) -> str:
        return shlex.join(self.command)

    def settings(self, platform: str, required: tuple[str, ...], **optional: Any) -> dict[str, Any]:
        """Returns a platform's table; `optional` gives defaults, whose types are also checked.

        Raises:
          UserError: a key is missing, unknown, or of another type.
        """
        table = self.platform[platform]
        unknown = sorted(table.keys() - {*required, *optional})
        missing = [key for key in required if not table.get(key)]
        if unknown or missing:
            known = ", ".join([*required, *optional])
            what = f"does not know {unknown[0]}" if unknown else f"needs {missing[0]}"
            raise UserError(f"[{platform}] of job {self.name} {what}; its keys are {known}.")
        for key in table:
            kind = type(optional.get(key, ""))
            if type(table[key]) is not kind:
                raise UserError(f"[{platform}] of job {self.name}: {key} must be a {kind.__name__}.")
        return optional | table


def load(path: Path) -> Job:
    """Reads a job file.

    Raises:
      UserError: the file is missing, or does not follow docs/launch.md.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    defaults: dict[str, Any] = {
        "slices": 1,
        "spot": False,
        "bucket": "",
        "image": "",
        "env_file": "",
        "env": {},
        "max_restarts": 3,
    } | {name: {} for name in _PLATFORMS}
    required = ("name", "command", "accelerator")
    _check_keys(path, table, required, defaults)
    values = defaults | table
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", values["name"]):
        raise UserError(
            f"{path}: name = {values['name']!r}: use at most 32 of a-z, 0-9 and -, a letter first."
        )
    bucket = values["bucket"].removeprefix("gs://").rstrip("/")
    if bucket and not re.fullmatch(r"[a-z0-9][-_.a-z0-9]+", bucket):
        raise UserError(f"{path}: bucket = {values['bucket']!r}: the name of a bucket, without folders.")
    command = tuple(shlex.split(values["command"]))
    if not command:
        raise UserError(f"{path}: command is empty.")
    if not bucket and any(BUCKET_DIR in word for word in command):
        raise UserError(f"{path}: the command names {BUCKET_DIR}, but there is no bucket.")
    if any("gs://" in word for word in command):
        raise UserError(
            f"{path}: the command sees its bucket as a folder: write {BUCKET_DIR}/ instead of gs://."
        )
    for word in command:
        _check_no_expansion(f"{path}: command: {word}", word)
    if values["slices"] < 1 or values["max_restarts"] < 0:
        raise UserError(f"{path}: slices must be at least 1 and max_restarts at least 0.")
    chips = accelerator(values["accelerator"])
    env_file = (
        path.parent / path_of(values["env_file"])
        if values["env_file"]
        else _ENV_DIR / f"{chips.env_file}.env"
    )
    env = read_env(env_file) | {name: str(value) for name, value in values["env"].items()}
    for name, value in env.items():
        _check_no_expansion(f"{path}: env: {name} = {value}", value)
    return Job(
        name=values["name"],
        command=command,
        accelerator=chips,
        slices=values["slices"],
        spot=values["spot"],
        bucket=bucket or None,
        image=values["image"] or None,
        env=env,
        max_restarts=values["max_restarts"],
        platform={name: values[name] for name in _PLATFORMS},
    )


def read_env(path: Path) -> dict[str, str]:
    """Reads lines NAME=VALUE; a repeated name appends its value after a space. # starts a comment.

    Raises:
      UserError: a line has another form, or the file does not exist.
    """
    if not path.is_file():
        raise UserError(f"env_file: there is no {path}.")
    variables: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UserError(f"{path}, line {number}: expected NAME=VALUE, got {line!r}.")
        variables[name] = f"{variables[name]} {value}" if name in variables else value
    return variables


def _check_no_expansion(where: str, text: str) -> None:
    """Raises UserError for text that a shell would expand: some platforms use no shell, and homes differ by machine."""
    found = VARIABLE.search(text) or _HOME.search(text)
    if found:
        raise UserError(
            f"{where}: {found[0].strip('=:/')} is not filled in on the machines: write out the path."
        )


def _check_keys(
    path: Path, table: dict[str, Any], required: tuple[str, ...], defaults: dict[str, Any]
) -> None:
    for key in table:
        if key not in required and key not in defaults:
            raise UserError(f"{path}: unknown key {key}; there are {', '.join([*required, *defaults])}.")
        kind = type(defaults.get(key, ""))
        if type(table[key]) is not kind:
            raise UserError(f"{path}: {key} must be a {kind.__name__}, got {table[key]!r}.")
    for key in required:
        if key not in table:
            raise UserError(f"{path}: {key} is missing.")
