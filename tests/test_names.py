import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unloc_jax.names import id_from_text, id_to_text, normal_id, normal_text

IDS = st.one_of(st.integers(), st.text(), st.from_regex(r'["\[{ 0-9eE.+-]{0,6}', fullmatch=True))


@given(IDS)
def test_a_number_stays_a_number_and_a_text_a_text(value):
    read = id_from_text(id_to_text(value))
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("stored", ["sTEELN-vY30", "0012", "1e5", "NaN", "[1]", "[" * 100_000])
def test_what_is_no_number_is_stored_as_it_is(stored):
    assert id_to_text(stored) == stored and id_from_text(stored) == stored


def test_numbers_of_earlier_datasets():
    assert id_from_text("8737") == 8737


@given(st.text())
def test_texts_are_compared_once_and_for_all(text):
    """A stored name compares like the one in the file, however often it is read."""
    once = normal_text(text)
    assert normal_text(once) == once
    assert normal_text(unicodedata.normalize("NFD", f" {text}\n")) == once


def test_ids():
    assert {normal_id(name) for name in ("a.mp4", "a.MOV", "a", " a.ts ")} == {"a"}
    assert normal_id(12) == normal_id("12") == "12"
    assert normal_id("video.1") == "video.1" and normal_id("x.webm.mp4") == "x.webm"
    assert normal_id("Cafe\u0301.mp4") == normal_id("Caf\u00e9")
