"""All commands of `unloc` with their options, as Markdown, from the parser itself."""

import argparse
from collections.abc import Iterator

from markdown_text import cell, table


def commands_page(parser: argparse.ArgumentParser) -> str:
    """Returns a page with a section for each command that can be run."""
    parts = [
        "# Commands",
        "All options of every command, made from the parser; `unloc COMMAND --help` prints the same. In a path `~` is "
        "your home folder. Commands that take `--config` also take `--config.KEY=VALUE` for every "
        "[setting](settings.md).",
        "Exit status: 0, 2 after a mistake that you can fix (one line on standard error says how), 130 after Ctrl-C.",
    ]
    for command in _commands(parser):
        parts += [f"## {command.prog}", _sentence(command.description or ""), *_usage(command)]
        options = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
        rows = [[_name(action), _meaning(action)] for action in options]
        parts.append(table(["option", "meaning"], rows) if rows else "No options.")
    return "\n\n".join(parts) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields the parsers that have no commands below them, in their order."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for made in action.choices.values():
            yield from _commands(made)


def _sentence(text: str) -> str:
    end = "" if not text or text[-1] in ".?!" else "."
    return cell(text[:1].upper() + text[1:] + end)


def _usage(command: argparse.ArgumentParser) -> list[str]:
    """Returns what must be given, as a line to copy."""
    words = [command.prog]
    alternatives = {
        id(a): group for group in command._mutually_exclusive_groups for a in group._group_actions
    }
    shown: set[int] = set()
    for action in command._actions:
        group = alternatives.get(id(action))
        if group is not None and group.required and id(group) not in shown:
            shown.add(id(group))
            words.append("(" + " | ".join(map(_synopsis, group._group_actions)) + ")")
        elif group is None and action.required:
            words.append(_synopsis(action))
    return ["```text\n" + " ".join(words) + "\n```"]


def _synopsis(action: argparse.Action) -> str:
    return " ".join([*action.option_strings[:1], *_values(action)])


def _values(action: argparse.Action) -> list[str]:
    """Returns the names of an option's values, as its help shows them."""
    if action.nargs == 0:
        return []
    if action.choices is not None and action.metavar is None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = str(action.metavar or action.dest.upper().replace("_", "-"))
    return [name, "…"] if action.nargs in ("+", "*") else [name]


def _has_default(action: argparse.Action) -> bool:
    default = action.default
    return default is not None and default is not False and default not in ([], argparse.SUPPRESS)


def _name(action: argparse.Action) -> str:
    return cell(f"`{', '.join(action.option_strings)}`" if action.option_strings else f"`{action.metavar}`")


def _meaning(action: argparse.Action) -> str:
    """Returns values, help and default of an option."""
    meaning = action.help or ""
    if _has_default(action) and "default" not in meaning:
        meaning += f" (default {action.default})"
    if action.required and action.option_strings:
        meaning += " (required)"
    values = " ".join(_values(action)) if action.option_strings else ""
    return cell(" ".join(part for part in (f"`{values}`" if values else "", meaning.strip()) if part))
