"""Where the kit's own files are; reading TOML; writing a file whole or not at all."""

import errno
import os
import re
from contextlib import contextmanager
from pathlib import Path

from hpkit.errors import BadInput


def data_folder() -> Path:
    """The project's `data/`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    packaged = package / "data"
    if packaged.is_dir():
        return packaged
    return package.parent / "data"


def cache_folder() -> Path:
    """Where results are kept that can be made again; it may not exist yet.

    `HPKIT_CACHE`, else `hpkit` under `XDG_CACHE_HOME`, else `~/.cache/hpkit`.
    """
    home = os.environ.get("HPKIT_CACHE")
    if not home:
        home = os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/hpkit"
    return Path(home).expanduser()


def existing_path(name: str) -> Path | None:
    """What lies on this machine under a name that somebody gave, `~` as their home; None: nothing.

    A hub id, or a text given in place of a name, is none.
    """
    if not name:  # Path would take it for the folder at hand
        return None
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # far too long, `~nobody`, bytes of zero
        return None


def read_toml(file: Path, what: str, expected: str = "expected a TOML file") -> dict:
    """The tables and values of a TOML file.

    Raises BadInput, naming `what` it should hold, and `expected` where it is missing.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{what} {str(file)!r}: no such file; {expected}") from None
    except OSError as error:
        raise BadInput(f"{what} {file}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # bad UTF-8 and bad TOML
        raise BadInput(f"{what} {file} is not TOML: {error}") from None


def write_whole(path: Path, content: str | bytes, optional: bool = False) -> None:
    """Write a file under its final name only when it is whole.

    `optional`: an unwritable place is no error.
    """
    # Beside the file, so that the same disk holds both and the renaming is one step; with the
    # process in its name, so that two writers never share a part.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if isinstance(content, str):
        content = content.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        if not optional:
            raise


@contextmanager
def disk_errors_are_bad_input(out: Path, again: str):
    """A folder that cannot be written becomes one line, which ends with what to do `again`.

    torch and safetensors report a full disk in words of their own.
    """
    try:
        yield
    except Exception as error:
        # safetensors' errors carry the number in their text, torch's none at all.
        number = getattr(error, "errno", None)
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or re.search(
            r"os error (28|122|27)\b|No space left|PytorchStreamWriter", str(error)
        ):
            raise BadInput(
                f"no space left on the device while writing to {out}: what was whole before is "
                f"still there; free some space, then {again}"
            ) from error
        refused = isinstance(error, PermissionError | NotADirectoryError | FileExistsError)
        if refused or number == errno.EROFS:
            raise BadInput(
                f"{out} cannot be written ({error.strerror}): choose another folder"
            ) from error
        raise
