import html
import json
from pathlib import Path

import ftfy
import numpy as np
import pytest

from unloc_jax.text import END_TOKEN, START_TOKEN, clean, tokenize, words

ANNOTATIONS = Path(__file__).parents[2] / "shared" / "annotations"


def pieces(text: str) -> list[int]:
    """The ids of a text without start, end and padding."""
    row = tokenize([text], 77)[0].tolist()
    assert row[0] == START_TOKEN
    end = row.index(END_TOKEN)
    assert not any(row[end + 1 :])
    return row[1:end]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # As OpenAI's CLIP prints them.
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a diagram", [320, 22697]),
        ("a dog", [320, 1929]),
        ("hello world!", [3306, 1002, 256]),
        ("", []),
    ],
)
def test_known_ids(text, ids):
    assert pieces(text) == ids


def test_rows():
    found = tokenize(["a photo of a cat", "a dog"], 8)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(
        found,
        [[49406, 320, 1125, 539, 320, 2368, 49407, 0], [49406, 320, 1929, 49407, 0, 0, 0, 0]],
    )
    assert tokenize([], 8).shape == (0, 8)


@pytest.mark.parametrize("max_tokens", [3, 5, 6, 7])
def test_a_long_text_keeps_its_end_token(max_tokens):
    row = tokenize(["a photo of a cat"], max_tokens)[0]
    full = [49406, 320, 1125, 539, 320, 2368, 49407]
    np.testing.assert_array_equal(row, [*full[: max_tokens - 1], 49407])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("A Photo OF a cat", "a photo of a cat"),
        ("  a photo\t of\na\u00a0cat ", "a photo of a cat"),
        ("salt &amp; pepper", "salt & pepper"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("&lt;3", "<3"),
        ("schÃ¶n", "schön"),  # UTF-8 read as Latin-1
        ("it\u2019s", "it's"),  # curly quotes
        ("ﬁre", "fire"),  # a ligature
    ],
)
def test_cleaning(text, same):
    assert clean(text).lower() == same
    assert pieces(text) == pieces(same)


def test_words_are_split_as_in_clip():
    # A contraction, single digits, and punctuation that sticks together are pieces of their own.
    assert pieces("he's 42!!") == [*pieces("he"), *pieces("'s"), *pieces("4"), *pieces("2"), *pieces("!!")]
    assert len(pieces("he's 42!!")) == 5
    assert pieces("x9y") == [*pieces("x"), *pieces("9"), *pieces("y")]


def test_other_scripts_and_emoji_are_bytes():
    for text in ("猫が走る", "кошка", "🐈"):
        assert pieces(text) and len(pieces(text)) <= len(text.encode())
    assert pieces("猫") != pieces("犬")


def real_sentences() -> list[str]:
    sentences = [line.split("##", 1)[1] for line in read("charades_sta_test.txt").splitlines()]
    sentences += [
        s for video in json.loads(read("activitynet_captions_val.json")).values() for s in video["sentences"]
    ]
    sentences += [json.loads(line)["query"] for line in read("qvhighlights_val_release.jsonl").splitlines()]
    return sentences


def read(name: str) -> str:
    return (ANNOTATIONS / name).read_text("utf-8")


def own_sentences() -> list[str]:
    """Words of this project's pages: names, numbers, code, punctuation."""
    pages = (Path(__file__).parents[1] / "docs").glob("*.md")
    lines = [line for page in sorted(pages) for line in page.read_text("utf-8").splitlines()]
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize(
    "sentences_of",
    [
        own_sentences,
        pytest.param(
            real_sentences,
            marks=pytest.mark.skipif(
                not ANNOTATIONS.is_dir(), reason="no ../shared/annotations beside the repository"
            ),
        ),
    ],
)
def test_equals_another_implementation(sentences_of):
    """instant-clip-tokenizer is written in Rust and does not clean, so it gets what has nothing to be cleaned."""
    other = pytest.importorskip("instant_clip_tokenizer").Tokenizer()
    sentences = sentences_of()
    sentences = [s for s in sentences[:: 1 + len(sentences) // 5000] if html.unescape(ftfy.fix_text(s)) == s]
    assert len(sentences) > 1000
    for max_tokens in (12, 77):  # with and without cutting off
        ours = tokenize(sentences, max_tokens)
        theirs = other.tokenize_batch(sentences, context_length=max_tokens)
        different = [s for s, a, b in zip(sentences, ours, theirs, strict=True) if (a != b).any()]
        assert not different, different[:5]


def test_words():
    assert words("A man's dog, a DOG_house & caf\u00e9 42!") == [
        "a",
        "man",
        "s",
        "dog",
        "house",
        "café",
        "42",
    ]
    assert words(" \u2026?! ") == []
