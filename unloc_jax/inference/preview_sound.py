"""The sound of a preview: which tracks browsers play as they are, and AAC for the others."""

import math
import tempfile
from pathlib import Path

import av

from unloc_jax.sound import read_sound
from unloc_jax.sound_windows import Sound
from unloc_jax.video import VideoError
from unloc_jax.video_names import ffmpeg_file

# MIME types of files without pictures that browsers play, by FFmpeg's name of the format and the codec.
_PLAYED = {
    ("wav", "pcm_s16le"): "audio/wav",
    ("wav", "pcm_u8"): "audio/wav",
    ("mp3", "mp3"): "audio/mpeg",
    ("flac", "flac"): "audio/flac",
    ("ogg", "vorbis"): "audio/ogg",
    ("ogg", "opus"): "audio/ogg",
    ("mov,mp4,m4a,3gp,3g2,mj2", "aac"): "audio/mp4",
    ("matroska,webm", "opus"): "audio/webm",
}
_PLAYED_BESIDE_PICTURES = {"video/mp4": {"aac", "mp3", "opus", "flac"}, "video/webm": {"opus", "vorbis"}}

_RATE = 24_000  # of a copy, in samples per second
_MOST_BITS, _FEWEST_BITS = 64_000, 10_000  # per second, mono
_SAMPLES_PER_PACKET, _BYTES_PER_PACKET = 1024, 8  # of AAC, and their tables in an MP4
_HEADER_BYTES = 4096


def type_of_sound(path: Path) -> str | None:
    """Returns the MIME type under which browsers play a file without pictures as it is, or None."""
    name, options = ffmpeg_file(path)
    with av.open(name, options=options) as container:
        tracks = container.streams.audio
        if len(tracks) != 1 or container.duration is None:  # browsers offer no choice, and cannot seek
            return None
        return _PLAYED.get((container.format.name, _codec_name(tracks[0])))


def plays_beside_pictures(container: av.container.InputContainer, mime: str) -> bool:
    """Returns whether browsers play the sound of a video of this type, if there is any."""
    tracks = container.streams.audio
    return len(tracks) < 2 and all(_codec_name(track) in _PLAYED_BESIDE_PICTURES[mime] for track in tracks)


def _codec_name(stream: av.AudioStream) -> str:
    return "" if stream.codec_context is None else stream.codec_context.codec.canonical_name


class SoundCopy:
    """The sound of a file as AAC for an MP4.

    Args:
      sound: what to write.
      most_bytes: for all of it; about 10 to 64 kbit per second are used.
    """

    def __init__(self, sound: Sound, most_bytes: float):
        duration_s = len(sound.samples) / sound.rate
        tables = _HEADER_BYTES + _BYTES_PER_PACKET * len(sound.samples) / _SAMPLES_PER_PACKET
        bits = 8 * (0.95 * most_bytes - tables) / max(duration_s, 1.0)
        self._bits = int(min(max(bits, _FEWEST_BITS), _MOST_BITS))
        self.num_bytes = int(tables + self._bits / 8 * duration_s / 0.95)
        self._sound, self._next = sound, 0  # the next sample to write
        self._stream: av.AudioStream | None = None

    def add_to(self, container: av.container.OutputContainer) -> None:
        """Adds its stream, before anything is written, and begins anew."""
        self._next = 0
        self._stream = container.add_stream("aac", rate=self._sound.rate, layout="mono")
        self._stream.bit_rate = self._bits

    def write_until(self, container: av.container.OutputContainer, time_s: float) -> None:
        """Writes the sound from where the last call ended."""
        assert self._stream is not None
        samples, rate = self._sound.samples, self._sound.rate
        end = int(min(len(samples), time_s * rate))
        for start in range(self._next, end, rate):
            part = samples[start : min(start + rate, end)]
            frame = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(self._stream.encode(frame))
        self._next = max(self._next, end)

    def finish(self, container: av.container.OutputContainer) -> None:
        """Writes the rest."""
        self.write_until(container, math.inf)
        assert self._stream is not None
        container.mux(self._stream.encode())


def sound_copy(path: Path, most_bytes: float, audio_track: int | None) -> SoundCopy | None:
    """Returns the copy of a file's sound; None = it has none.

    Raises:
      VideoError: the file, or its sound, cannot be used.
    """
    sound = read_sound(path, _RATE, audio_track)
    return None if sound is None else SoundCopy(sound, most_bytes)


def copy_of_sound(path: Path, max_bytes: int, audio_track: int | None) -> bytes | None:
    """Returns the sound of a file as an MP4 without pictures; None if it would exceed `max_bytes`.

    Raises:
      VideoError: the file has no sound, or it cannot be used.
    """
    sound = sound_copy(path, max_bytes, audio_track)
    if sound is None:
        raise VideoError("not a video", f"{path}: there is neither picture nor sound in this file.")
    if sound.num_bytes > max_bytes:
        return None
    with tempfile.TemporaryDirectory(prefix="unloc_preview_") as directory:
        copy = Path(directory) / "preview.m4a"
        with av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"}) as container:
            sound.add_to(container)
            sound.finish(container)
        content = copy.read_bytes()
    return content if len(content) <= max_bytes else None
