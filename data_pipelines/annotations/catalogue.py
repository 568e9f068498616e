"""The datasets that the parsers read: facts for `unloc data list` and docs/datasets.md."""

import dataclasses
import difflib
from collections.abc import Sequence

from unloc_jax.errors import UserError

ACTIONS, MOMENTS, FRAMES = "action localisation", "moment retrieval", "action segmentation"
SOUNDS = "detection of sounds"
HIGHLIGHTS = "moment retrieval, highlight detection"

_YOUTUBE = "videos are from YouTube, and some are gone"
_ASK = "see the source"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
      name: for people.
      format: `--dataset` of `unloc data` and `unloc metrics`.
      task: what it is for.
      size: videos, segments and classes, as published.
      source: where the files come from.
      licence: a note, not advice.
      files: the annotation files of all splits.
      truth: those of them that `unloc metrics` takes.
      split: the one that papers report.
      config: file in configs/ to start from.
      settings: further ones.
      protocol: of `unloc metrics`, with its options; where its name is the format, `--dataset` implies it.
      measures: what papers report, where the protocol prints something else or more.
      published: numbers to compare with, and their source.
      mistakes: typical ones.
      features: argument of the config for the features that are most used, and options of the build for them; "" where
        there is nothing but features.
      trained_on: for evaluation only: the dataset of the training.
    """

    name: str
    format: str
    task: str
    size: str
    source: str
    licence: str
    files: str
    truth: str
    split: str
    config: str
    protocol: str
    measures: str = ""
    published: str = ""
    mistakes: str = ""
    settings: str = ""
    features: tuple[str, str] | None = None
    trained_on: str = ""

    @property
    def on_features(self) -> str:
        """What changes in the commands where features are read instead of frames; "" if nothing does."""
        if not self.features or not self.features[0]:
            return ""
        argument, options = self.features
        file = self.config.partition(":")[0]
        return (
            f"`{options}` instead of `--videos=DOWNLOADS/videos`, in the build also `--no-frames`, and "
            f"`configs/{file}:{argument}` (docs/features.md)"
        )

    @property
    def commands(self) -> list[str]:
        """The commands for check, build, train, evaluate and the official numbers."""
        files, truth = (_in_folder(names) for names in (self.files, self.truth))
        is_actions = self.task in (ACTIONS, SOUNDS)
        # A protocol that reads the official file needs no parser.
        options = (
            []
            if self.protocol == self.format and self.format in _BY_PARSER
            else [f"--protocol={self.protocol}"]
        )
        if self.format in _BY_PARSER:
            options += [f"--dataset={self.format}", f"--subset={self.split}"]
        given = "--videos=DOWNLOADS/videos"
        if self.features and not self.features[0]:
            given = f"--no-frames {self.features[1]}"
        shards = "DOWNLOADS/training_shards" if self.trained_on else "DOWNLOADS/shards"
        return [
            f"unloc data check --dataset={self.format} --annotations {files} "
            f"{given.removeprefix('--no-frames ')}",
            f"unloc data build --dataset={self.format} --annotations {files} {given} --out=DOWNLOADS/shards",
            f"unloc train --config=configs/{self.config} --config.data.dir={shards} "
            f"--workdir=DOWNLOADS/run{f' {self.settings}' if self.settings else ''}",
            f"unloc evaluate --checkpoint=DOWNLOADS/run{' --data-dir=DOWNLOADS/shards' if self.trained_on else ''} "
            f"--split={self.split} --out=DOWNLOADS/results",
            f"unloc metrics {' '.join(options)} --ground-truth {truth} "
            f"--predictions=DOWNLOADS/results/predictions.{'json' if is_actions else 'jsonl'}",
        ]


# Formats that `unloc metrics` reads with a parser (--dataset), because no official evaluator of ours does.
_BY_PARSER = {
    *(
        "ego4d_mq",
        "ego4d_nlq",
        "epic_kitchens",
        "epic_kitchens_nouns",
        "epic_kitchens_verbs",
        "epic_sounds",
        "mad",
    ),
    *("ms_tcn", "nextgqa", "timelens", "tvr", "crosstask", "assembly101"),
}


def _in_folder(names: str) -> str:
    return " ".join(f"DOWNLOADS/{name}" for name in names.split())


_WINDOWS = "--config.data.sampling=window"
_EPIC_CLASSES = "EPIC_100_verb_classes.csv EPIC_100_noun_classes.csv"
_EPIC_TABLES = "EPIC_100_train.csv EPIC_100_validation.csv"


def _epic(format: str, task: str, classes: str, numbers: str) -> Dataset:
    return Dataset(
        f"EPIC-Kitchens-100, {task}",
        format,
        ACTIONS,
        f"700 videos of 100 hours; 67,217 segments for training, 9,668 for validation; {classes}",
        "https://github.com/epic-kitchens/epic-kitchens-100-annotations",
        "CC BY-NC 4.0",
        f"{_EPIC_TABLES} {_EPIC_CLASSES} EPIC_100_video_info.csv",
        f"EPIC_100_validation.csv {_EPIC_CLASSES} EPIC_100_video_info.csv",
        "validation",
        "epic_kitchens.py:B",
        format,
        measures="mAP at tIoU 0.1:0.1:0.5 of verbs, of nouns and of actions",
        published=numbers,
        mistakes="the words in the columns `verb` and `noun` are the annotator's, not the class; "
        "without windows, 128 frames of an hour are one in 28 s",
        features=("slowfast", "--features slowfast=DOWNLOADS/slowfast"),
    )


def _ms_tcn(name: str, size: str, licence: str, mistakes: str) -> Dataset:
    return Dataset(
        name,
        "ms_tcn",
        FRAMES,
        size,
        "https://zenodo.org/record/3625992 (MS-TCN's archive)",
        licence,
        "groundTruth/*.txt mapping.txt splits/train.split1.bundle splits/test.split1.bundle",
        "groundTruth/*.txt mapping.txt splits/test.split1.bundle",
        "test",
        f"{name.lower()}.py:B",
        name.lower(),
        measures="frame accuracy, edit score and F1@{10, 25, 50}, averaged over the splits: `unloc average` of the "
        "files that `--out` writes. `unloc evaluate` labels the sampled "
        "frames: edit and F1 of them are not those of all frames",
        mistakes=mistakes,
        features=("i3d", "--features i3d=DOWNLOADS/features --features-axis 1"),
    )


def _timelens(name: str, file: str, config: str, numbers: str) -> Dataset:
    return Dataset(
        f"TimeLens-Bench, {name}",
        "timelens",
        MOMENTS,
        f"the test of {name}, annotated again",
        "https://github.com/TencentARC/TimeLens",
        _ASK,
        file,
        file,
        "test",
        config,
        "timelens",
        measures="R1@0.3, R1@0.5, R1@0.7, mIoU",
        published=f"TimeLens-8B {numbers} (R1@0.3/0.5/0.7, its README)",
        mistakes="its numbers are not comparable to those of the original annotations; it is for evaluation, here of a "
        f"run that was trained on {name}: build its shards as above, in another folder",
        trained_on=name,
    )


def _database(
    name: str,
    size: str,
    source: str,
    file: str,
    split: str,
    tiou: str,
    numbers: str,
    protocol: str,
    config: str,
    features: str = "",
) -> Dataset:
    return Dataset(
        name,
        "activitynet",
        ACTIONS,
        size,
        source,
        _ASK,
        file,
        file,
        split,
        f"{config}.py:B",
        protocol,
        measures=f"mAP at tIoU {tiou or '0.5:0.05:0.95'}"
        f"{f'; per-frame mAP: `--protocol {protocol}_frames`' if tiou == _DENSE else ''}",
        published=numbers,
        settings=_WINDOWS if config == "thumos14" else "",
        features=(features, f"--features {features}=DOWNLOADS/{features}") if features else None,
    )


_OPENTAD = "https://github.com/sming256/OpenTAD"
_LIGHTHOUSE = "https://github.com/line/lighthouse"
_DENSE = "0.1:0.1:0.9"


def _audio(name: str, size: str, file: str) -> Dataset:
    return Dataset(
        name,
        "qvhighlights",
        MOMENTS,
        size,
        _LIGHTHOUSE,
        _ASK,
        file,
        file.split()[-1],
        "test",
        "qvhighlights.py:B",
        "qvhighlights",
        mistakes="audio: give features (`--features`), such as CLAP's; there is no picture to learn from",
    )


DATASETS = (
    Dataset(
        "ActivityNet 1.3",
        "activitynet",
        ACTIONS,
        "19,994 videos, 200 classes",
        "http://activity-net.org/download.html",
        _YOUTUBE,
        "activity_net.v1-3.min.json",
        "activity_net.v1-3.min.json",
        "validation",
        "activitynet_tal.py:B",
        "activitynet",
        published="mAP@0.5: UnLoc-L 59.3 (paper); average mAP 39.15 with VideoMAE-L, without an "
        "external classifier (OpenTAD)",
        mistakes="comparing with papers that use an external video classifier; missing videos lower the score",
    ),
    Dataset(
        "ActivityNet Captions",
        "activitynet_captions",
        MOMENTS,
        "10,009 videos for training; 4,917 with 17,505 sentences in val_1",
        "https://cs.stanford.edu/people/ranjaykrishna/densevid/",
        _YOUTUBE,
        "train.json val_1.json",
        "val_1.json",
        "validation",
        "activitynet_captions.py:B",
        "moment-retrieval",
        published="R1@0.5/0.7: UnLoc-B 48.0/29.7, UnLoc-L 48.3/30.2 (paper)",
        mistakes="papers test on val_2, on val_1, or on both",
    ),
    Dataset(
        "Charades-STA",
        "charades_sta",
        MOMENTS,
        "6,672 videos; 12,408 and 3,720 sentences",
        "https://github.com/jiyanggao/TALL, lengths and videos: https://prior.allenai.org/projects/charades",
        "Charades: non-commercial research",
        "charades_sta_train.txt charades_sta_test.txt Charades_v1_train.csv Charades_v1_test.csv",
        "charades_sta_test.txt",
        "test",
        "charades_sta.py:B",
        "moment-retrieval",
        published="R1@0.5/0.7: UnLoc-L 60.8/38.4 (paper)",
        mistakes="ends past the video's end (1,790 in train) are the annotation's, and are clipped",
    ),
    Dataset(
        "QVHighlights",
        "qvhighlights",
        HIGHLIGHTS,
        "10,148 pieces of videos of 150 s, 10,310 queries",
        "https://github.com/jayleicn/moment_detr",
        "CC BY-NC-SA 4.0",
        "highlight_train_release.jsonl highlight_val_release.jsonl highlight_test_with_gt.jsonl",
        "highlight_test_with_gt.jsonl",
        "test",
        "qvhighlights.py:B",
        "qvhighlights",
        features=("slowfast_clip", "--features slowfast=DOWNLOADS/slowfast --features clip=DOWNLOADS/clip"),
        published="R1@0.5/0.7: UnLoc-L 66.1/46.7 (paper); MR-mAP: R2-Tuning 47.86 (its README)",
        mistakes="the test's answers are public since March 2026 (highlight_test_with_gt.jsonl); "
        "the file with the older name has "
        "none, and its server has shut down",
    ),
    Dataset(
        "COIN",
        "coin",
        FRAMES,
        "11,827 videos, 778 steps",
        "https://coin-dataset.github.io/",
        _YOUTUBE,
        "COIN.json",
        "COIN.json",
        "test",
        "coin.py:B",
        "segmentation",
        published="frame accuracy: UnLoc-L 72.8 (paper)",
        mistakes="54 steps share their names with others",
    ),
    Dataset(
        "THUMOS14",
        "thumos14",
        ACTIONS,
        "200 and 213 untrimmed videos, 20 classes",
        "https://www.crcv.ucf.edu/THUMOS14/",
        "research, after registration",
        "thumos14.json",
        "thumos14.json",
        "test",
        "thumos14.py:B",
        "thumos14",
        features=("i3d", "--features i3d=DOWNLOADS/i3d"),
        published="average mAP at 0.3:0.1:0.7: ActionFormer I3D 66.83, AdaTAD VideoMAEv2-g 77.07 (OpenTAD)",
        mistakes="its validation set is what everybody trains on",
    ),
    Dataset(
        "Kinetics-400, -600, -700",
        "kinetics",
        "classification, for pretraining",
        "about 240,000 to 650,000 clips of 10 s",
        "https://github.com/cvdfoundation/kinetics-dataset",
        f"CC BY 4.0; {_YOUTUBE}",
        "train.csv val.csv",
        "val.csv",
        "validation",
        "kinetics_pretrain.py:B",
        "classification",
        mistakes="a clip's id contains its times",
    ),
    Dataset(
        "TACoS",
        "tacos",
        MOMENTS,
        "127 videos of cooking, about 18,800 sentences",
        "https://github.com/microsoft/VideoX/tree/master/2D-TAN/data/TACoS",
        _ASK,
        "train.json val.json test.json",
        "test.json",
        "test",
        "charades_sta.py:B",
        "moment-retrieval",
        mistakes="sentences are repeated, and every one counts",
        settings=_WINDOWS,
    ),
    Dataset(
        "DiDeMo",
        "didemo",
        MOMENTS,
        "10,464 videos, about 40,000 sentences",
        "https://github.com/LisaAnne/LocalizingMoments",
        "videos are from Flickr, each with its licence",
        "train_data.json val_data.json test_data.json",
        "test_data.json",
        "test",
        "charades_sta.py:B",
        "moment-retrieval",
        measures="Rank@1, Rank@5, mIoU over 21 moments of 5 s",
        mistakes="only the first 30 s are annotated",
    ),
    Dataset(
        "YouCook2",
        "youcook2",
        MOMENTS,
        "2,000 videos of 89 recipes, about 15,400 sentences",
        "http://youcook2.eecs.umich.edu/download",
        _YOUTUBE,
        "youcookii_annotations_trainval.json",
        "youcookii_annotations_trainval.json",
        "validation",
        "charades_sta.py:B",
        "moment-retrieval",
        settings=_WINDOWS,
    ),
    Dataset(
        "TVSum",
        "tvsum",
        "highlight detection",
        "50 videos of 10 domains",
        "https://github.com/wjun0830/QD-DETR",
        _YOUTUBE,
        "tvsum_train.jsonl tvsum_val.jsonl",
        "tvsum_val.jsonl",
        "validation",
        "qvhighlights.py:B",
        "tvsum",
        mistakes="papers train one model per domain",
    ),
    Dataset(
        "YouTube Highlights",
        "youtube_highlights",
        "highlight detection",
        "about 430 videos of 6 domains",
        _LIGHTHOUSE,
        _YOUTUBE,
        "youtube_highlight_train.jsonl youtube_highlight_val.jsonl",
        "youtube_highlight_val.jsonl",
        "validation",
        "qvhighlights.py:B",
        "youtube-highlights",
        mistakes="papers train one model per domain",
    ),
    _epic("epic_kitchens", "actions", "pairs of 97 verbs and 300 nouns", ""),
    _epic(
        "epic_kitchens_verbs",
        "verbs",
        "97 classes",
        "average mAP: AdaTAD VideoMAE-L 29.69, CausalTAD SlowFast 26.43 (OpenTAD)",
    ),
    _epic(
        "epic_kitchens_nouns",
        "nouns",
        "300 classes",
        "average mAP: AdaTAD VideoMAE-L 29.44, CausalTAD SlowFast 24.28 (OpenTAD)",
    ),
    Dataset(
        "EPIC-Sounds",
        "epic_sounds",
        SOUNDS,
        "videos of EPIC-Kitchens-100; 78,400 segments, of which 8,035 for validation; 44 classes",
        "https://github.com/epic-kitchens/epic-sounds-annotations",
        "CC BY-NC 4.0",
        "EPIC_Sounds_train.csv EPIC_Sounds_validation.csv EPIC_100_video_info.csv",
        "EPIC_Sounds_validation.csv EPIC_100_video_info.csv",
        "validation",
        "thumos14.py:B",
        "epic_sounds",
        measures="mAP at tIoU 0.1:0.1:0.5",
        mistakes="give features of sound (`--features`): the picture alone does not tell most classes",
        settings=_WINDOWS,
    ),
    Dataset(
        "Ego4D NLQ",
        "ego4d_nlq",
        MOMENTS,
        "clips of 3.5 to 20 minutes; v1: about 11,300 and 3,900 queries",
        "https://ego4d-data.org",
        "Ego4D's licence agreement, per institution",
        "nlq_train.json nlq_val.json",
        "nlq_val.json",
        "validation",
        "ego4d_nlq.py:B",
        "ego4d_nlq",
        measures="R1 and R5 at IoU 0.3 and 0.5, for an overlap above the threshold",
        mistakes="videos are the clips, named by clip_uid; some windows have no length and cannot be found",
        features=("omnivore", "--features omnivore=DOWNLOADS/omnivore"),
    ),
    Dataset(
        "Ego4D MQ",
        "ego4d_mq",
        ACTIONS,
        "clips of about 8 minutes, 110 classes",
        "https://ego4d-data.org",
        "Ego4D's licence agreement, per institution",
        "moments_train.json moments_val.json",
        "moments_val.json",
        "validation",
        "ego4d_mq.py:B",
        "ego4d_mq",
        measures="mAP at tIoU 0.1:0.1:0.5, recall@1x and @5x at 0.5 (recall@0.50@1 and @5)",
        published="average mAP: CausalTAD InternVideo2 33.05 (OpenTAD)",
        mistakes="labels that are not `primary` do not count; recall of OpenTAD and ActionFormer is another "
        "number, the mean over classes (`--variant=opentad`)",
        features=("omnivore", "--features omnivore=DOWNLOADS/omnivore"),
    ),
    _timelens("Charades-STA", "charades-timelens.json", "charades_sta.py:B", "76.6/63.0/35.2"),
    _timelens(
        "ActivityNet Captions", "activitynet-timelens.json", "activitynet_captions.py:B", "68.9/58.4/40.6"
    ),
    _timelens("QVHighlights", "qvhighlights-timelens.json", "qvhighlights.py:B", "80.2/71.6/55.5"),
    Dataset(
        "TVR",
        "tvr",
        MOMENTS,
        "21,800 clips of TV shows, 109,000 queries, of which 10,895 of 2,179 clips in validation",
        "https://github.com/jayleicn/TVRetrieval",
        _ASK,
        "tvr_train_release.jsonl tvr_val_release.jsonl",
        "tvr_val_release.jsonl",
        "validation",
        "charades_sta.py:B",
        "tvr",
        measures="R1, R5, R10 at IoU 0.5 and 0.7 within the query's clip (SVMR); retrieval from "
        "all clips (VCMR) is not measured",
        mistakes="queries of type `t` are about what is said, which no model here hears",
    ),
    Dataset(
        "MAD",
        "mad",
        MOMENTS,
        "650 films of 1,200 hours, 384,600 sentences",
        "https://github.com/Soldelli/MAD",
        "features and annotations after signing an agreement; no films",
        "MAD_train.json MAD_val.json MAD_test.json",
        "MAD_test.json",
        "test",
        "mad.py:L,clip_l14",
        "mad",
        measures="R1, R5, R10, R50 and R100 at IoU 0.1, 0.3 and 0.5",
        mistakes="there are no films, so nothing but features can be trained on; `mad.py:clip_b32` reads those of B/32",
        features=("", "--features clip=DOWNLOADS/CLIP_L14_frames_features_5fps.h5"),
    ),
    Dataset(
        "NExT-GQA",
        "nextgqa",
        "moments that answer questions",
        "567 and 990 videos; 3,358 and 5,553 questions with 10,531 moments",
        "https://github.com/doc-doc/NExT-GQA",
        f"{_ASK}; videos are VidOR's",
        "val.csv test.csv gsub_val.json gsub_test.json map_vid_vidorID.json",
        "test.csv gsub_test.json map_vid_vidorID.json",
        "test",
        "charades_sta.py:B",
        "nextgqa",
        measures="mIoP, IoP@0.3, IoP@0.5, mIoU, IoU@0.3, IoU@0.5 of one window; Acc@GQA with `--answers`",
        mistakes="the training questions have no moments: training here is on the validation set or another dataset",
    ),
    _ms_tcn(
        "50Salads",
        "50 videos, 17 actions and the start and the end, 5 splits",
        "CC BY-NC-SA 4.0",
        "`action_start` and `action_end` are classes; labels are of 30 frames per second",
    ),
    _ms_tcn(
        "Breakfast",
        "1,712 videos, 48 actions, 4 splits",
        _ASK,
        "`SIL` is a class; several cameras show one scene, and belong to one split",
    ),
    _ms_tcn(
        "GTEA",
        "28 videos, 10 actions and background, 4 splits",
        _ASK,
        "`background` is no action: edit and F1 leave it out",
    ),
    Dataset(
        "CrossTask",
        "crosstask",
        ACTIONS,
        "2,750 videos of 18 tasks, 105 steps",
        "https://github.com/DmZhukov/CrossTask",
        _YOUTUBE,
        "annotations/*.csv tasks_primary.txt videos_val.csv",
        "annotations/*.csv tasks_primary.txt videos_val.csv",
        "validation",
        "activitynet_tal.py:B",
        "activitynet",
        measures="recall of steps, one predicted time for each; this is not measured",
        mistakes="papers that train without times are not comparable with those that use them",
    ),
    Dataset(
        "Assembly101, coarse actions",
        "assembly101",
        FRAMES,
        "362 sequences of 12 views, 202 actions",
        "https://github.com/assembly-101/assembly101-annotations",
        "CC BY-NC 4.0",
        "coarse_labels/*.txt coarse_splits/train_coarse_*.txt coarse_splits/val_coarse_*.txt",
        "coarse_labels/*.txt coarse_splits/val_coarse_*.txt",
        "validation",
        "coin.py:B",
        "assembly101",
        measures="frame accuracy, edit score and F1@{10, 25, 50} of all frames",
        mistakes="a sequence has several views, and one annotation; the test split has no public labels",
        settings=_WINDOWS,
    ),
    _database(
        "HACS Segments",
        "50,000 videos, 140,000 segments, 200 classes",
        "http://hacs.csail.mit.edu",
        "HACS_segments_v1.1.1.json",
        "validation",
        "",
        "average mAP: DBM InternVideo2 44.81 (OpenTAD)",
        "hacs",
        "hacs",
        "slowfast",
    ),
    _database(
        "FineAction",
        "17,000 videos, 103,000 segments, 106 classes",
        "https://github.com/Richard-61/FineAction",
        "annotations_gt.json",
        "validation",
        "",
        "average mAP: DBM InternVideo2 29.13 (OpenTAD)",
        "fineaction",
        "fineaction",
    ),
    _database(
        "MultiTHUMOS, OpenTAD's JSON",
        "413 videos of THUMOS14, 65 classes",
        _OPENTAD,
        "multithumos.json",
        "validation",
        _DENSE,
        "average mAP: AdaTAD 48.73 (OpenTAD)",
        "multithumos",
        "multithumos",
        "i3d",
    ),
    _database(
        "Charades, OpenTAD's JSON",
        "9,848 videos, 157 classes",
        _OPENTAD,
        "charades.json",
        "test",
        _DENSE,
        "average mAP: AdaTAD 37.56 (OpenTAD)",
        "charades",
        "charades_tal",
        "i3d",
    ),
    *(
        _database(
            f"{name}, OpenTAD's JSON",
            f"as {name} above",
            _OPENTAD,
            file,
            "validation",
            "0.1:0.1:0.5",
            "",
            protocol,
            config,
        )
        for name, file, protocol, config in (
            ("EPIC-Sounds", "epic_kitchens_sound.json", "epic_sounds", "thumos14"),
            ("Ego4D MQ", "ego4d_v2_220429.json", "ego4d_mq", "ego4d_mq"),
        )
    ),
    _audio(
        "Clotho-Moment",
        "6,649 queries in the training set that was read",
        "clotho-moment_train.jsonl clotho-moment_test.jsonl",
    ),
    _audio("CASTELLA", "1,347 queries in the file that was read", "castella_train.jsonl castella_test.jsonl"),
    _audio("UnAV-100-subset", "100 queries", "unav100-subset_test.jsonl"),
)


def named(names: Sequence[str]) -> list[Dataset]:
    """Returns the datasets whose name or format is given, in any case; all of them if no name is.

    Raises:
      UserError: a name is unknown.
    """
    found = []
    for name in names:
        these = [of for of in DATASETS if name.lower() in (of.format, of.name.lower())]
        if not these:
            every = sorted({word for of in DATASETS for word in (of.format, of.name)})
            nearest = difflib.get_close_matches(name, every, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise UserError(f"Unknown dataset {name!r}.{hint} `unloc data list` prints all.")
        found += [of for of in these if of not in found]
    return found if names else list(DATASETS)
