"""Finds the files of a video id by their names without extension, in a folder that is listed once."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from data_pipelines.annotations.kinetics import source_of_clip
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id
from unloc_jax.video_names import SOUND_ENDINGS, VIDEO_ENDINGS, composed, leaves_folder


class SeveralFilesError(UserError):
    """Ambiguous files: their names differ only in extension or in Unicode spelling.

    Attributes:
      files: these files.
    """

    def __init__(self, files: Sequence[Path]):
        alike = len({composed(str(file)) for file in files}) < len(files)
        names = " and ".join(ascii(str(file)) if alike else str(file) for file in files)
        super().__init__(
            f"{names} have one name: keep one of them, or rename one (here and in the annotations)."
        )
        self.files = tuple(files)

    def __reduce__(self):
        return SeveralFilesError, (self.files,)


class NamedFiles:
    """Index of the files of a folder with certain extensions, by their names without these.

    Compares extensions without regard to case, and names without surrounding blanks in Unicode's composed form (NFC). A
    folder is listed on first use: files that are added later are not found.
    """

    def __init__(self, folder: Path, endings: Iterable[str], *, of_videos: bool = False):
        """Prepares an index.

        Args:
          folder: local or remote, see `storage_path`.
          endings: extensions such as (".mp4", ".mkv"), in lower case.
          of_videos: the files are named after videos, perhaps with their extensions: "a.MP4.npy" is of "a".
        """
        self.folder = folder
        self._of_videos = of_videos
        self._endings = sorted(endings, key=len, reverse=True)
        self._listed: dict[str, dict[str, list[str]]] = {}

    def named(self, name: str) -> list[Path]:
        """Returns all files of a name, which may contain folders ("kitchen/clip_1") but must not leave the folder."""
        if leaves_folder(name):
            return []
        path = PurePosixPath(name)
        parent = str(path.parent)
        if parent not in self._listed:
            self._listed[parent] = self._list(self.folder / parent)
        return [
            self.folder / parent / found
            for found in self._listed[parent].get(composed(path.name).strip(), [])
        ]

    def find(self, names: Iterable[str]) -> Path | None:
        """Returns the file of the first name that has one; None if none has.

        Raises:
          SeveralFilesError: a name has several files.
        """
        for name in names:
            files = [path for path in self.named(name) if path.is_file()]
            if len(files) > 1:
                raise SeveralFilesError(files)
            if files:
                return files[0]
        return None

    def _list(self, folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        except OSError:  # reported when a file is opened
            names = []
        for name in names:
            ending = next((e for e in self._endings if name.lower().endswith(e)), None)
            if ending is None:
                continue
            stem = composed(name[: -len(ending)]).strip()
            for known_as in {stem, normal_id(stem)} if self._of_videos else {stem}:
                found.setdefault(known_as, []).append(name)
        return found


def video_files(folder: Path) -> NamedFiles:
    """Indexes the videos of a folder; look them up with `names_of(video_id)`."""
    return NamedFiles(folder, VIDEO_ENDINGS)


def sound_files(folder: Path) -> NamedFiles:
    """Indexes the files of sound alone of a folder; look them up with `names_of(video_id)`."""
    return NamedFiles(folder, SOUND_ENDINGS)


def names_of(video_id: str) -> list[str]:
    """Returns the names that files of a video may have, best first.

    These are its id; the id with or without ActivityNet's prefix `v_`; for a clip of Kinetics also its YouTube id.
    """
    other = video_id.removeprefix("v_") if video_id.startswith("v_") else f"v_{video_id}"
    source = source_of_clip(video_id)
    return [video_id, other] + ([source] if source else [])


def check_one_file_each(folders: Iterable[NamedFiles], video_ids: Iterable[str]) -> None:
    """Raises UserError if a video has several files of one name in a folder, before any of them is used."""
    video_ids = list(video_ids)
    several: list[SeveralFilesError] = []
    for files in folders:
        for video_id in video_ids:
            # Requests to a cloud are slow: check whether these are files only in ambiguous cases.
            if any(len(files.named(name)) > 1 for name in names_of(video_id)):
                try:
                    files.find(names_of(video_id))
                except SeveralFilesError as error:
                    several.append(error)
    if several:
        raise UserError(f"{len(several)} videos have several files, such as: {several[0]}")
