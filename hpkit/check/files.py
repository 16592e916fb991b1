"""What `hpkit check` is given, files, folders or standard input, and how each kind is read."""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpkit.check.calls import Call
from hpkit.check.cells import code_cells, require_file, text_of
from hpkit.check.configs import read_config
from hpkit.check.launched import with_its_script
from hpkit.check.launches import shell_calls
from hpkit.check.scripts import read_calls
from hpkit.errors import BadInput

PYTHON = (".py", ".ipynb")
CONFIGS = (".yaml", ".yml", ".json")
SHELLS = (".sh", ".bash")
#: What a name must end in for a folder's file to be looked at.
SUFFIXES = PYTHON + CONFIGS + SHELLS
#: Folders that hold other people's files, or none that a person wrote.
PASSED_OVER = {
    "__pycache__",
    "node_modules",
    "site-packages",
    "venv",
    "env",
    "build",
    "dist",
}
#: The name of standard input.
STDIN = "-"


@dataclass(frozen=True)
class Contents:
    """What one file sets: its places, remarks on it, and its texts: (cell, None of a whole file;
    text).
    """

    file: str
    calls: list[Call]
    notes: list[str]
    texts: list[tuple[int | None, str]]


def files_in(paths: Iterable[str]) -> list[str]:
    """The files to be looked at, in the order given; those of a folder by name.

    Raises BadInput for a path that is not there.
    """
    found = {}
    for path in paths:
        if path == STDIN:
            found[path] = None
        elif _is_folder(path):
            found |= dict.fromkeys(_files_of(path))
        else:
            require_file(path)
            found[path] = None
    return list(found)


def _is_folder(path: str) -> bool:
    try:
        return "\0" not in path and Path(path).is_dir()
    except OSError:  # a name that is too long for one
        return False


def _files_of(folder: str) -> list[str]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in PASSED_OVER and not name.startswith(".")
        )
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append(os.path.join(root, name))
    return found


def read_file(file: str, is_recipe: bool = False) -> Contents:
    """What a file sets, read by its ending; standard input by what it looks like.

    `is_recipe`: a script reads its values there. Raises BadInput for what cannot be read.
    """
    if file == STDIN:
        if sys.stdin is None:
            raise BadInput("-: expected text on standard input, which is closed")
        text = sys.stdin.read().removeprefix("\ufeff")
        return _read("<stdin>", text, _kind_of(text))
    suffix = Path(file).suffix.lower()
    if suffix not in SUFFIXES:
        ending = suffix or "no ending"
        raise BadInput(
            f"{file}: expected a script (.py), a notebook (.ipynb), settings (.yaml, .json) or "
            f"launch lines (.sh), got {ending}; give one of these"
        )
    return _read(file, text_of(file), suffix, is_recipe)


def _read(file: str, text: str, suffix: str, is_recipe: bool = False) -> Contents:
    texts = [(None, text)]
    if suffix in PYTHON:
        is_notebook = suffix == ".ipynb"
        calls, notes = read_calls(file, text, is_notebook)
        if is_notebook and "hpkit" in text:
            texts = code_cells(text, file)
    elif suffix in CONFIGS:
        language = "json" if suffix == ".json" else "yaml"
        calls, notes = read_config(file, text, language, is_recipe)
    else:
        calls, notes = shell_calls(file, text)
    return Contents(file, list(map(with_its_script, calls)), notes, texts)


def _kind_of(text: str) -> str:
    """The ending that a text would have."""
    start = text.lstrip()[:1]
    if start == "{":
        return ".ipynb" if '"cells"' in text else ".json"
    if text.startswith("#!") and "sh" in text.partition("\n")[0]:
        return ".sh"
    if re.search(r"(?m)^(import|from|def|class) |^\w+ = |^\w+\(", text):
        return ".py"
    if re.search(r"(?m)^[\w-]+:(\s|$)", text):
        return ".yaml"
    return (
        ".sh"
        if re.search(r"(?m)^\s*(torchrun|accelerate|deepspeed|python\d?|trl|export)\s", text)
        else ".py"
    )
