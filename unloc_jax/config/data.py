"""Settings of the data: which shards, what is taken from a video, how it is changed in training."""

import dataclasses
from typing import Annotated, Literal

from unloc_jax.config.audio import AudioAugmentationConfig
from unloc_jax.config.bounds import Bounds, Positive, Share


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to the frames of training videos, the same for all frames of a video, and to their sound."""

    scale_jitter: tuple[float, ...] = ()
    """(low, high): height and width are scaled by factors drawn from this range before the crop; () = not."""
    speed_jitter: tuple[float, ...] = ()
    """(low, high): the distance between the places of a window is multiplied by a factor drawn from this range, so that
    events last longer or shorter; () = not."""
    color: Share = 0.0
    """Chance that brightness, saturation, contrast and hue change."""
    grey: Share = 0.0
    """Chance that the colours are dropped."""
    rand_augment_layers: int = 0
    """Operations of RandAugment (those that move nothing) in a row."""
    rand_augment_magnitude: Annotated[float, Bounds(at_most=10)] = 10.0
    """Their strength, up to 10."""
    audio: AudioAugmentationConfig = dataclasses.field(default_factory=AudioAugmentationConfig)

    @property
    def changes_colors(self) -> bool:
        return bool(self.color or self.grey or self.rand_augment_layers)


@dataclasses.dataclass(frozen=True)
class MediaSequenceConfig:
    """Names the files and keys of MediaSequence data (`data.format=mediasequence`)."""

    train: str = ""
    """Files of the split: a name, a pattern, or Scenic's `name@10`, relative to data.dir; "" = by the files' names."""
    validation: str = ""
    test: str = ""
    fps: float = 0.0
    """Stored frames per second (Scenic: 1 / secs_per_timestep); 0 = that of `image/frame_rate` or `image/timestamp`."""
    short_side: int = 0
    """Resize frames to this shorter side before they are cropped (Scenic: min_resize); 0 = as they are stored."""
    labels: Literal["segment", "clip"] = "segment"
    """The unit that has labels: "segment", or "clip" (the whole video is one segment, as in Kinetics)."""
    video_id: tuple[str, ...] = (
        "clip/media_id",
        "example_id",
        "example/id",
        "video/filename",
        "clip/data_path",
    )
    """The first of these that a record has; none: `<file>/<number of the record>`."""
    frames: str = "image/encoded"
    """JPEG frames; "" = the shards hold features only."""
    num_frames: str = "clip/frames"
    """Number of frames of the video; where it is missing the stored ones are counted."""
    start_index: str = "segment/start/index"
    """First frame of each segment; "" = use the timestamps in training too."""
    end_index: str = "segment/end/index"
    """Last frame of each segment (it belongs to it)."""
    start_timestamp: str = "segment/start/timestamp"
    """Microseconds; "" = use the frame numbers in evaluation too."""
    end_timestamp: str = "segment/end/timestamp"
    texts: str = ""
    """Queries or class names; "" = `segment/label/string`, or `clip/label/text`, `clip/label/string` of clips."""
    class_index: str = ""
    """Class numbers, which order the vocabulary; "" = `segment/label/index` or `clip/label/index`."""
    classes_file: str = ""
    """Class names, the first column of a CSV (Scenic: class_name_csv), one per line."""
    first_class: int = 0
    """Number of the first class in classes_file (DMVR: label_offset)."""
    features: dict[str, str] = dataclasses.field(default_factory=dict)
    """Feature list of each modality; `<modality>/feature/floats` where not given."""
    sound: str = "WAVEFORM/feature/floats"
    """Feature list of the samples of the sound (mono, -1 to 1), for models that hear."""
    sound_rate: int = 0
    """Samples per second; 0 = that of `WAVEFORM/feature/sample_rate`."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Describes the shards, and what the model sees of a video."""

    dir: str = ""
    """Folder that `unloc data build` wrote; for "mediasequence", a folder or a pattern of TFRecord files."""
    format: Literal["unloc", "mediasequence"] = "unloc"
    """ "unloc", or "mediasequence": tf.train.SequenceExample records as Scenic and DMVR read them."""
    num_frames: Annotated[int, Bounds(at_least=2)] = 128
    """T, frames that the model sees."""
    sampling: Literal["linspace", "window"] = "linspace"
    """ "linspace": spread evenly over the whole video. "window": every `window_stride`-th stored frame (or row of
    features, for models without frames) from some frame on, a random one in training."""
    window_stride: Positive = 1
    evaluation_windows: Literal["center", "sliding"] = "sliding"
    """ "sliding": windows that together show the whole video, merged by NMS; "center": only the one in its middle."""
    window_overlap: Annotated[float, Bounds(at_most=0.9)] = 0.5
    """Share of a sliding window that the next one shows again."""
    crop_size: Positive = 224
    """Height and width of the (square) crop that the image tower sees."""
    max_segments: Positive = 16
    """S: segments per video; further ones are left out (and counted)."""
    max_queries: Positive = 8
    """Q: texts per video of a per-video task; further ones are left out in training, never in evaluation."""
    absent_queries: bool = True
    """Trains queries that have no answer in their video as occurring nowhere in it; False = leaves them out."""
    mirror: bool = False
    """Mirror half of the training videos, swapping left and right in their texts."""
    augmentation: AugmentationConfig = AugmentationConfig()
    prompts: tuple[str, ...] = ("{}",)
    """Templates around every text: a random one in each training step, the average of all in evaluation."""
    class_split: Literal["all", "50/50", "75/25"] = "all"
    """Zero-shot: train on this share of the classes, evaluate on the others; "all" = no such split."""
    class_split_seed: int = 0
    """Splits the classes into seen and unseen ones."""
    max_unreadable: Share = 0.01
    """Training continues without records that cannot be read, up to this share of the split; evaluation never does."""
    mediasequence: MediaSequenceConfig = dataclasses.field(default_factory=MediaSequenceConfig)
    reader: Literal["auto", "tf.data", "grain"] = "auto"
    """The reader: "auto" = tf.data where TensorFlow is installed, otherwise Grain. Both make the same ones."""
    num_workers: Positive = 2
    """Threads that decode frames."""
    stall_s: Annotated[float, Bounds(at_least=1)] = 60.0
    """A training step that has waited this long for its batch is reported."""

    @property
    def windowed(self) -> bool:
        """Whether the model sees a video in windows, rather than as a whole."""
        return self.sampling == "window"

    @property
    def window_hop(self) -> int:
        """Stored frames from the start of a sliding window to that of the next."""
        return self.window_stride * max(1, round(self.num_frames * (1 - self.window_overlap)))
