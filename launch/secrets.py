"""Hides what looks like a secret from what a dry run prints."""

import dataclasses
import re

from launch.job import Job

_NAMES = re.compile(r"(TOKEN|SECRET|PASSW(OR)?D|CREDENTIALS?|APIKEY|(^|_)KEY)$", re.I)
# Beginnings of tokens: Hugging Face, GitHub, GitLab, OpenAI and its like, AWS, Google, Slack.
_VALUES = re.compile(
    r"\b(hf_|ghp_|gho_|github_pat_|glpat-|sk-|AKIA|ya29\.|AIza|xox[abp]-)[\w.-]{8,}|-----BEGIN "
)


def without_secrets(job: Job) -> Job:
    """Returns the job with `[hidden]` in place of values that look like secrets, by their name or their beginning.

    Words of the command (`--api-key=…`) are treated like variables.
    """
    env = {name: _hidden(name, value) for name, value in job.env.items()}
    words = []
    for word in job.command:
        name, equals, value = word.partition("=")
        words.append(f"{name}={_hidden(name.lstrip('-'), value)}" if equals else _hidden("", word))
    for number, (name, _) in enumerate(zip(job.command, job.command[1:], strict=False), 1):
        if name.startswith("--") and "=" not in name:
            words[number] = _hidden(name.lstrip("-"), words[number])
    return dataclasses.replace(job, env=env, command=tuple(words))


def _hidden(name: str, value: str) -> str:
    is_secret = _NAMES.search(name.replace("-", "_").replace(".", "_")) or _VALUES.search(value)
    return "[hidden]" if value and is_secret else value
