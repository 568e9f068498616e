"""Job: the description of a training job for all launchers, read from one TOML file."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

from launch.accelerators import Accelerator, accelerator
from launch.constraints import constraints
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_toml
from unloc_jax.paths import VARIABLE, path_of

BUCKET_DIR = "/mnt/bucket"  # where machines mount the job's bucket
_ENV_DIR = Path(__file__).with_name("env")
# A home folder as a shell recognises it: at the start, or after "--workdir=" and in "PATH=a:b".
_HOME = re.compile(r"(?:^|[=:])(~[\w.-]*)(?:/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEVERAL_LINES = ("slurm.setup",)  # lines of shell, by purpose
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
      constraints: versions that every machine installs, as a constraints file of pip.
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
    constraints: str
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
            if kind is list and not all(isinstance(item, str) for item in table[key]):
                raise UserError(f"[{platform}] of job {self.name}: {key} must be a list of texts.")
        return optional | table


def load(path: Path) -> Job:
    """Reads a job file.

    Raises:
      UserError: the file is missing, or does not follow docs/launch.md.
    """
    try:
        table = parse_toml(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"{path}: {error}") from None
    defaults: dict[str, Any] = {
        "slices": 1,
        "spot": False,
        "bucket": "",
        "image": "",
        "env_file": "",
        "env": {},
        "max_restarts": 3,
        "constraints": "",
    } | {name: {} for name in _PLATFORMS}
    required = ("name", "command", "accelerator")
    _check_keys(path, table, required, defaults)
    values = defaults | table
    _check_one_line(path, "", {name: value for name, value in values.items() if name != "command"})
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", values["name"]):
        raise UserError(
            f"{path}: name = {values['name']!r}: use at most 32 of a-z, 0-9 and -, a letter first."
        )
    bucket = values["bucket"].removeprefix("gs://").rstrip("/")
    if bucket and not re.fullmatch(r"[a-z0-9][-_.a-z0-9]+", bucket):
        raise UserError(f"{path}: bucket = {values['bucket']!r}: the name of a bucket, without folders.")
    try:
        command = tuple(shlex.split(values["command"]))
    except ValueError as error:
        raise UserError(f"{path}: command: {str(error).lower()}.") from None
    if not command:
        raise UserError(f"{path}: command is empty.")
    _check_one_line(path, "command", list(command))
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
    env = read_env(env_file) | {name: _variable(path, name, value) for name, value in values["env"].items()}
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
        constraints=_constraints(path, values["constraints"]),
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
        if not equals or not _VARIABLE_NAME.fullmatch(name):
            raise UserError(f"{path}, line {number}: expected NAME=VALUE, got {line!r}.")
        variables[name] = f"{variables[name]} {value}" if name in variables else value
    return variables


def _constraints(path: Path, file: str) -> str:
    """Returns the text of the job's constraints file; without one, the versions of this environment."""
    if not file:
        return constraints()
    try:
        return (path.parent / path_of(file)).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: constraints = {file}: {error}.") from None


def _variable(path: Path, name: str, value: Any) -> str:
    """Returns a value of [env] as text; raises UserError for names that a shell would not take as one."""
    if not _VARIABLE_NAME.fullmatch(name):
        raise UserError(f"{path}: [env] {name!r}: names have A-Z, a-z, 0-9 and _, and begin with no digit.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{path}: [env] {name} = {value!r}: write a text or a number.")
    return str(value)


def _check_one_line(path: Path, key: str, value: Any) -> None:
    """Raises UserError for texts with line breaks or other control characters, at any depth.

    Values become lines of scripts and units of systemd, where a line break would begin something else.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_one_line(path, f"{key}.{name}" if key else name, name)
            _check_one_line(path, f"{key}.{name}" if key else name, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_one_line(path, key, inner)
    elif isinstance(value, str) and key not in _SEVERAL_LINES and _CONTROL.search(value):
        raise UserError(f"{path}: {key} = {value!r}: one line without control characters is needed here.")


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
