"""Renders synthetic videos: saturated objects over a drifting, muted background."""

import colorsys
from collections.abc import Iterator

import numpy as np

from data_pipelines.synthetic.scene import Event, Scene

RGB = {
    "red": (225, 30, 35),
    "green": (30, 175, 60),
    "blue": (35, 80, 235),
    "yellow": (250, 225, 40),
    "purple": (150, 45, 205),
    "orange": (255, 130, 10),
}


def render_frames(scene: Scene, rng: np.random.Generator, size: int, fps: int) -> Iterator[np.ndarray]:
    """Yields the frames of a scene, uint8 [size, size, 3] RGB, at times 0, 1/fps, 2/fps, …

    The generator affects only the background. Later events are drawn over earlier ones.
    """
    texture, drift = _background(rng, size)
    period = texture.shape[0] - size
    boxes = [event.path.boxes() for event in scene.events]
    for k in range(scene.num_frames):
        top, left = np.rint(drift * k / fps).astype(int) % period
        frame = texture[top : top + size, left : left + size].copy()
        for event, event_boxes in zip(scene.events, boxes):
            if k in event.path.frames:
                _draw(frame, event, *(size * event_boxes[event.path.frames.index(k)]))
        yield frame


def _background(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a seamless texture, uint8 [3·size, 3·size, 3] with period 2·size, and its drift (y, x) in pixels/s."""
    period = 2 * size
    frequency = np.fft.fftfreq(period, d=1 / size)  # cycles per frame side
    low_pass = np.exp(-(frequency[:, None] ** 2 + frequency[None, :] ** 2) / (2 * 2.5**2))
    low_pass[0, 0] = 0.0
    white = rng.standard_normal((period, period)) + 1j * rng.standard_normal((period, period))
    noise = np.fft.ifft2(np.fft.fft2(white) * low_pass)
    light, tint = (np.clip(part / part.std(), -2.5, 2.5) for part in (noise.real, noise.imag))

    base = 255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.25), rng.uniform(0.4, 0.75)))
    tint_color = rng.uniform(-7, 7, size=3)
    texture = base + 13 * light[..., None] + tint_color * tint[..., None]
    texture = np.clip(texture, 0, 255).astype(np.uint8)
    texture = np.pad(texture, ((0, size), (0, size), (0, 0)), mode="wrap")

    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.1) * size
    return texture, speed * np.array([np.sin(angle), np.cos(angle)])


def _draw(frame: np.ndarray, event: Event, x: float, y: float, diameter: float) -> None:
    """Blends the object into the frame, uint8 [size, size, 3], in place; x, y, diameter in pixels.

    The signed distance of every pixel to the outline gives the antialiasing.
    """
    size = frame.shape[0]
    top, left = (max(int(centre - diameter / 2) - 1, 0) for centre in (y, x))
    patch = frame[top : int(y + diameter / 2) + 2, left : int(x + diameter / 2) + 2]
    dy = (np.arange(top, top + patch.shape[0], dtype=np.float32) + 0.5 - y)[:, None]
    dx = (np.arange(left, left + patch.shape[1], dtype=np.float32) + 0.5 - x)[None, :]

    distance = _SIGNED_DISTANCE[event.shape](dx, dy, diameter)
    rim = max(size / 64, 1.0)  # a dark rim keeps overlapping objects of one color apart
    outer = np.clip(0.5 - distance, 0, 1)[..., None]
    inner = np.clip(0.5 - distance - rim, 0, 1)[..., None]
    color = np.array(RGB[event.color], dtype=np.float32)
    shaded = color * (0.5 + 0.5 * inner)
    patch[:] = patch + outer * (shaded - patch) + 0.5


def _circle(dx: np.ndarray, dy: np.ndarray, diameter: float) -> np.ndarray:
    return np.sqrt(dx * dx + dy * dy) - diameter / 2


def _square(dx: np.ndarray, dy: np.ndarray, diameter: float) -> np.ndarray:
    # A little smaller than the circle's bounding box: about the same area to the eye.
    return np.maximum(np.abs(dx), np.abs(dy)) - 0.45 * diameter


def _triangle(dx: np.ndarray, dy: np.ndarray, diameter: float) -> np.ndarray:
    # Equilateral, point up, as wide as the diameter and centred in its bounding box.
    half_height = np.sqrt(3) / 4 * diameter
    slanted = np.sqrt(3) / 2 * np.abs(dx) - 0.5 * (dy + half_height)
    return np.maximum(slanted, dy - half_height).astype(np.float32)


_SIGNED_DISTANCE = {"circle": _circle, "square": _square, "triangle": _triangle}
