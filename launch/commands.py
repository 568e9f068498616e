"""The command line that all launchers share: a job file, --dry-run, and running or printing commands."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from launch.job import Job, load
from launch.secrets import without_secrets
from unloc_jax.console import patient_streams, show
from unloc_jax.errors import UserError
from unloc_jax.paths import ArgumentParser
from unloc_jax.whole_writes import cannot_write, write_result

# One step of an action: files to write first (path → text), then a command to run.
Step = tuple[Mapping[Path, str], Sequence[str]]
Action = Callable[[Job], list[Step]]


def main(
    module: str,
    actions: Mapping[str, Action],
    argv: Sequence[str] | None = None,
    loops: Mapping[str, Callable[[Job, bool], int]] | None = None,
) -> int:
    """Runs `python -m launch.MODULE ACTION JOB.toml [--dry-run]`.

    Args:
      module: name of the launcher.
      actions: by name, functions that return the steps of an action.
      argv: arguments of the command line; None: those of the process.
      loops: by name, actions that decide while they run: (job, dry_run) → exit status.

    Returns:
      The exit status of the command that failed, else 0.
    """
    with patient_streams():
        return _main(module, actions, argv, loops or {})


def _main(
    module: str,
    actions: Mapping[str, Action],
    argv: Sequence[str] | None,
    loops: Mapping[str, Callable[[Job, bool], int]],
) -> int:
    arguments = parser_of(module, [*actions, *loops]).parse_args(argv)
    try:
        job = load(arguments.job)
        if arguments.dry_run:  # its output is read by others, and kept in logs
            job = without_secrets(job)
        if arguments.action in loops:
            return loops[arguments.action](job, arguments.dry_run)
        for files, command in actions[arguments.action](job):
            if arguments.dry_run:
                show(describe(files, command))
                continue
            status = run(files, command)
            if status:
                return status
    except UserError as error:
        show(f"launch.{module}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def parser_of(module: str, actions: Sequence[str]) -> ArgumentParser:
    """Returns the parser of `python -m launch.MODULE`."""
    parser = ArgumentParser(prog=f"python -m launch.{module}", description="See docs/launch.md.")
    parser.add_argument("action", choices=actions)
    parser.add_argument("job", type=Path, metavar="JOB.toml")
    parser.add_argument("--dry-run", action="store_true", help="print what would be written and run")
    return parser


def to_yaml(document: dict[str, Any]) -> str:
    """Formats a document as YAML, with multi-line texts as blocks and keys in their order."""

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=110)


def describe(files: Mapping[Path, str], command: Sequence[str]) -> str:
    """Formats writing the files and running the command as shell."""
    written = []
    for path, text in files.items():
        end = "END_OF_FILE"
        while end in text.splitlines():
            end += "_"
        written.append(f"cat > {shlex.quote(str(path))} <<'{end}'\n{text}{end}")
    return "\n".join([*written, shlex.join(command)])


def run(files: Mapping[Path, str], command: Sequence[str]) -> int:
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(cannot_write(path, error)) from error
        write_result(path, text)
    show(f"+ {shlex.join(command)}", file=sys.stderr)
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        show(f"{command[0]} is not installed (docs/launch.md links to it)", file=sys.stderr)
        return 127
    except KeyboardInterrupt:
        return 130
