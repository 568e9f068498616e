"""The SentencePiece vocabulary of a checkpoint whose texts are read with one: a file in each step's directory."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from unloc_jax.config import Config
from unloc_jax.config.towers import vocabulary_file
from unloc_jax.errors import UserError
from unloc_jax.piece_text import read_vocabulary

ITEM = "vocabulary"
_FILE = "sentencepiece.model"


class _Handler(ocp.CheckpointHandler):
    """Writes one file as it is."""

    def save(self, directory: epath.Path, args: "VocabularySave") -> None:
        if jax.process_index() == 0:
            (directory / _FILE).write_bytes(args.content)

    def restore(self, directory: epath.Path, args: Any = None) -> Any:
        raise NotImplementedError("it is read as a file")


@ocp.args.register_with_handler(_Handler, for_save=True, for_restore=True)
@dataclasses.dataclass
class VocabularySave(ocp.args.CheckpointArgs):
    """The content of the file."""

    content: bytes


def content_of(config: Config) -> bytes | None:
    """Returns the vocabulary that the config's texts are read with; None = they need none.

    Raises:
      UserError: It is not given, or cannot be read.
    """
    file = vocabulary_file(config.model)
    return None if file is None else read_vocabulary(file)


def digest(content: bytes | None) -> str | None:
    """Returns what tells a vocabulary from others."""
    return None if content is None else hashlib.sha256(content).hexdigest()


def with_own_vocabulary(config: Config, step_dir: Path, wanted: str | None) -> Config:
    """Returns a checkpoint's config, of which config.model.text.sentencepiece is the file in the checkpoint.

    Args:
      config: Of the checkpoint.
      step_dir: Its directory.
      wanted: The file's `digest` when it was saved.

    Raises:
      UserError: The file is missing or damaged.
    """
    if vocabulary_file(config.model) is None:
        return config
    file = step_dir / ITEM / _FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror or error}); the checkpoint is damaged."
        ) from error
    if digest(content) != wanted:
        raise UserError(f"{file} differs from what was saved; the checkpoint is damaged.")
    text = dataclasses.replace(config.model.text, sentencepiece=str(file))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))
