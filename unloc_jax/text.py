"""CLIP's byte-pair tokenizer, from the vocabulary file included in the package.

Gives exactly CLIP's ids: ftfy repairs broken Unicode, HTML entities are unescaped, text is lower-cased, white space is
collapsed, and a text that is too long loses its tail but keeps its end token.
"""

import functools
import gzip
import html
import re
from collections.abc import Sequence
from importlib import resources
from typing import Protocol

import ftfy
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

VOCABULARY_SIZE = 49408
START_TOKEN = 49406
END_TOKEN = 49407

# CLIP's word pattern: contractions, letters, single digits, runs of anything else.
_WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# The first 48,894 merges are the ones CLIP was trained with; the file holds more.
_NUM_MERGES = 49152 - 256 - 2


def _byte_alphabet() -> list[str]:
    """Returns the 256 printable stand-ins for bytes, in CLIP's id order (printable bytes first, then the rest)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


@functools.cache
def _tokenizer() -> tokenizers.Tokenizer:
    path = resources.files("unloc_jax").joinpath("assets/bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _NUM_MERGES + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    alphabet = _byte_alphabet()
    pieces = alphabet + [c + "</w>" for c in alphabet] + [left + right for left, right in merges]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def clean(text: str) -> str:
    """Repairs broken Unicode, undoes (double) HTML escapes, and collapses white space, as CLIP does."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def tokenize(texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """Returns token ids, int32 [N, max_tokens]: start token, words, end token, then zeros.

    A text that does not fit keeps its first `max_tokens - 2` word pieces and its end token.
    """
    ids = np.zeros((len(texts), max_tokens), np.int32)
    for row, encoding in enumerate(_tokenizer().encode_batch([clean(t) for t in texts])):
        pieces = encoding.ids[: max_tokens - 2]
        ids[row, : len(pieces) + 2] = [START_TOKEN, *pieces, END_TOKEN]
    return ids


def num_tokens(text: str) -> int:
    """Returns the number of tokens of a text, including start and end; `tokenize` cuts those beyond `max_tokens`."""
    return len(_tokenizer().encode(clean(text)).ids) + 2


class Tokens(Protocol):
    """Makes the tokens that a text tower reads.

    Attributes:
      added: Number of tokens of a text that are no word pieces, such as start and end.
    """

    @property
    def added(self) -> int: ...

    def __call__(self, texts: Sequence[str], max_tokens: int) -> np.ndarray:
        """Returns int32 [N, max_tokens] of N texts, zeros after the last token; a text that does not fit is cut.

        Raises:
          UserError: A vocabulary that is needed cannot be read.
        """
        ...

    def count(self, text: str) -> int:
        """Returns the number of tokens of a text that is not cut."""
        ...

    def fingerprint(self) -> str:
        """Returns what tells the vocabulary from others."""
        ...


class ClipTokens:
    """CLIP's tokens; its vocabulary is a part of the package."""

    added = 2

    def __call__(self, texts: Sequence[str], max_tokens: int) -> np.ndarray:
        return tokenize(texts, max_tokens)

    def count(self, text: str) -> int:
        return num_tokens(text)

    def fingerprint(self) -> str:
        return "CLIP"


CLIP_TOKENS = ClipTokens()


def words(text: str) -> list[str]:
    """Returns the distinct words of a text in order, lower-cased, without punctuation."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", clean(text).lower())))
