import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipelines.reading.flipped_texts import mirror_text
from data_pipelines.synthetic.language import MOTION_WORDS


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the red ball moves to the left", "the red ball moves to the right"),
        ("slides rightwards.", "slides leftwards."),
        ("it goes from right to left, then leftward", "it goes from left to right, then rightward"),
        ("Left-hand side, RIGHT side", "Right-hand side, LEFT side"),
        ("the leftmost one", "the rightmost one"),
        ("Turn_Left", "Turn_Right"),
        ("circle moves left", "circle moves right"),
        (
            "a bright leftover, copyright, lefty, outright, left2",
            "a bright leftover, copyright, lefty, outright, left2",
        ),
        ("a person opens the door", "a person opens the door"),
        ("", ""),
    ],
)
def test_known_texts(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


_fragments = st.sampled_from(
    ["left", "Right", "LEFTWARDS", "rightward", "lEFT", "most", "_", "-", " ", "é", "7"]
)


@given(st.lists(st.one_of(_fragments, st.text(max_size=3))).map("".join))
@example("lEFT right")
def test_twice_is_the_text_itself(text):
    assert mirror_text(mirror_text(text)) == text


def test_every_wording_of_left_becomes_a_wording_of_right():
    assert {mirror_text(words) for words in MOTION_WORDS["left"]} == set(MOTION_WORDS["right"])
    for motion in ("up", "down", "grow", "shrink"):
        assert [mirror_text(words) for words in MOTION_WORDS[motion]] == list(MOTION_WORDS[motion])
