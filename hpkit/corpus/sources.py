"""Files on this disk: which of a folder's are read, and a file's bytes as text or a table."""

import gzip
import os
import re
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput

#: Endings of files that a folder is searched for, in any case and perhaps before `.gz`. A file
#: named by itself is read whatever its name ends in.
ENDINGS = (
    ".abc", ".txt", ".text", ".md", ".markdown",
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet",
)  # fmt: skip
#: Words in a name that set a file apart for evaluation, as the datasets library has them.
HELD_OUT_WORDS = {"test", "testing", "eval", "evaluation", "valid", "validation", "val", "dev"}
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_BYTE_ORDER_MARK = "\ufeff"


class Found(NamedTuple):
    """The files of a folder that are read; of the others, reason -> names; hidden folders.

    `folder` is None where a file was named by itself.
    """

    folder: Path | None
    files: list[Path]
    unread: dict[str, list[str]]
    hidden_folders: int

    def pass_over(self, file: Path, reason: str) -> None:
        """Note why a file, or a folder, is not read."""
        name = file.name
        if self.folder:
            name = str(file.relative_to(self.folder))
        self.unread.setdefault(reason, []).append(name)


class Unreadable(BadInput):
    """A file that is no text at all; in a folder it is passed over, for the short `reason`.

    The reason has a default, for a process that gets the error from another makes it of its message
    alone.
    """

    def __init__(self, message: str, reason: str = "cannot be read"):
        super().__init__(message)
        self.reason = reason


def find_files(folder: Path) -> Found:
    """What of a folder, and of the folders in it, is read, in the order of names.

    Links to folders are not followed, for they may lead in a circle.
    """
    found = Found(folder, [], {}, 0)
    hidden = 0

    def pass_over_folder(error: OSError) -> None:
        found.pass_over(Path(error.filename), f"cannot be opened: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=pass_over_folder):
        visible = []
        for name in sorted(folders):
            if name.startswith("."):
                hidden += 1
            elif Path(parent, name).is_symlink():
                found.pass_over(Path(parent, name), "a link to a folder")
            else:
                visible.append(name)
        folders[:] = visible  # os.walk goes on with what is left here
        for name in names:
            file = Path(parent, name)
            reason = _reason_not_to_read(file)
            if reason:
                found.pass_over(file, reason)
            else:
                found.files.append(file)
    to_train_on, held_out = _parted_by_name(folder, sorted(found.files))
    if not to_train_on:
        return found._replace(files=held_out, hidden_folders=hidden)
    for file in held_out:
        found.pass_over(file, "a test set by its name, which eval_corpus takes")
    return found._replace(files=to_train_on, hidden_folders=hidden)


def _reason_not_to_read(file: Path) -> str | None:
    if file.name.startswith("."):
        return "hidden"
    if file.name.endswith(("~", ".bak", ".swp", ".tmp")):
        return "a backup"
    ending = ending_of(file)
    packed = file.name.lower().endswith(".gz")
    if not ending and not packed:
        return "no ending"
    if ending and ending not in ENDINGS:
        return f"{ending} is not a format that hpkit reads"
    try:
        status = file.stat()
    except OSError as error:  # such as a link that leads nowhere, or to itself
        return f"cannot be opened: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
        return "no regular file"
    if not status.st_size:
        return "empty"
    return None


def ending_of(file: Path) -> str:
    """What a file's name ends in, in small letters, without the `.gz` of a packed one."""
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _parted_by_name(folder: Path, files: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files to train on, and those whose names call them test sets or the like."""
    to_train_on = []
    held_out = []
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(folder)).lower())
        if HELD_OUT_WORDS & set(words):
            held_out.append(file)
        else:
            to_train_on.append(file)
    return to_train_on, held_out


def content_of(file: Path) -> str | bytes:
    """A file's text, or its bytes where it is a Parquet table.

    What is packed with gzip is unpacked. Raises BadInput: Unreadable for what is no text.
    """
    try:
        content = file.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Unreadable(f"{file} cannot be read: {why}") from None
    if content.startswith(_PARQUET):
        return content
    try:
        # "-sig": editors on Windows put a mark in front.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"{file} is not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}): "
            "save it as UTF-8",
            "no UTF-8 text",
        ) from None
    if text.startswith(_BYTE_ORDER_MARK):
        raise BadInput(f"{file} begins with two byte-order marks: save it again as UTF-8")
    if "\0" in text:
        raise Unreadable(f"{file} is no text: it holds bytes of zero", "no text")
    # As Python reads a text file: lines of Windows and of old Macs end as all others do.
    return text.replace("\r\n", "\n").replace("\r", "\n")
