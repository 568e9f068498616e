"""What a user should know of a video's sound: missing, silent, clipped, shorter or longer than the picture."""

import numpy as np

from unloc_jax.sound_windows import Sound
from unloc_jax.video import VideoNote

# A track whose loudest sample is below this (-60 dB) is silent; one with more than this share at full scale is clipped.
_SILENT, _FULL_SCALE, _CLIPPED_SHARE = 33, 32_700, 0.001
_AT_ONCE = 1 << 20
# Sound and picture that end farther apart than this are reported.
_ENDS_S, _ENDS_FRACTION = 1.0, 0.05


def notes_on_sound(sound: Sound | None, length_s: float) -> tuple[VideoNote, ...]:
    """Returns what a user should know of a video's sound, countable by kind.

    Args:
      sound: as read; None: the video has no sound track.
      length_s: of the video's picture in seconds (of a file of sound alone: of its sound).
    """
    if sound is None:
        return (VideoNote("no sound track", "what is asked of its sound cannot be found"),)
    notes = [VideoNote(*note) for note in sound.notes]
    if not len(sound.heard):
        return tuple(notes)
    loudest, clipped = _levels(sound.samples)
    if loudest < _SILENT:
        notes.append(VideoNote("silent sound track", f"no sample is louder than {loudest} of {2**15}"))
    elif clipped > _CLIPPED_SHARE:
        notes.append(
            VideoNote("clipped sound", f"{100 * clipped:.2f} % of its samples are as loud as can be")
        )
    most_s = max(_ENDS_S, _ENDS_FRACTION * length_s)
    kind = "sound ends before the picture" if sound.end_s < length_s else "sound ends after the picture"
    if length_s and abs(sound.end_s - length_s) > most_s:
        notes.append(VideoNote(kind, f"at {sound.end_s:.2f} s of {length_s:.2f} s"))
    return tuple(notes)


def lacks_sound(note: VideoNote) -> bool:
    """Returns whether a note says that a video has no sound that can be used."""
    return note.kind.startswith(("no sound", "empty sound"))


def _levels(samples: np.ndarray) -> tuple[int, float]:
    """Returns the loudest level, 0 to 32768, and the share of samples near it that are as loud as int16 can be."""
    loudest = clipped = 0
    for start in range(0, len(samples), _AT_ONCE):
        level = np.abs(samples[start : start + _AT_ONCE].astype(np.int32))
        loudest = max(loudest, int(level.max()))
        clipped += int((level >= _FULL_SCALE).sum())
    return loudest, clipped / max(len(samples), 1)
