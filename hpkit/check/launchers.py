"""Notebooks and shell files that start a script or name its recipe, and what they install."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpkit.check.projects import fitting_files, folders_of_repository, stamp
from hpkit.check.requirements import pins

#: Where they stand, seen from a folder of the repository.
_PLACES = ("*.ipynb", "*.sh", "*/*.ipynb", "*/*.sh")
_STARTS = re.compile(
    r"\b(?:(?:torchrun|accelerate launch|deepspeed|python3?|trl \w+)\s|entry_point\s*=).*"
)
#: SageMaker's estimators name an image by the version in it.
_IMAGE = re.compile(r"\btransformers_version\s*=\s*[\"']([\d.]+)")
_NAMES = re.compile(r"[\w./-]+\.(?:py|ya?ml|json)\b")


class _Launcher(NamedTuple):
    """The paths that its launch lines name, as they are written, and what it installs."""

    names: frozenset[str]
    pins: Mapping[str, str]


def pins_of_launcher(file: Path) -> dict[str, str]:
    """package -> specifier, of a notebook or shell file of the repository that starts this file.

    A person who runs it there runs it with those versions, whatever the project's own say.
    """
    folders = folders_of_repository(file.parent)
    if not (folders[-1] / ".git").exists():
        return {}
    for folder in folders:
        for launcher in fitting_files(folder, _PLACES, stamp(folder)):
            started = _read(launcher, stamp(launcher))
            if any(_is_named(file, name, launcher) for name in started.names):
                return dict(started.pins)
    return {}


def _is_named(file: Path, name: str, launcher: Path) -> bool:
    """Whether a path as a launcher writes it, `scripts/run.py` or `../r.yaml`, may be this file's.

    A bare `train.py` is many a file's: it has to stand above the launcher or below it.
    """
    plain = re.sub(r"^(\.{0,2}/)+", "", name)
    is_near = launcher.parent in file.parents or file.parent in launcher.parents
    return file.as_posix().endswith("/" + plain) and ("/" in plain or is_near)


@cache
def _read(launcher: Path, _changed: float) -> _Launcher:
    try:
        text = launcher.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _Launcher(frozenset(), {})
    # Most install nothing, and parsing each takes long.
    if not re.search(r"\bpip|transformers_version", text):
        return _Launcher(frozenset(), {})
    if launcher.suffix == ".ipynb":
        text = _text_of_cells(text)
    installed = {package: pin for package, pin in pins([text]).items() if pin}
    for version in _IMAGE.findall(text):
        installed["transformers"] = f"=={version}"
    names = set()
    if installed:
        for line in _STARTS.findall(re.sub(r"\\\n", " ", text)):
            names.update(_NAMES.findall(line))
    return _Launcher(frozenset(names), installed)


def _text_of_cells(text: str) -> str:
    """A notebook's cells, those of prose too, where many a command is written."""
    try:
        cells = json.loads(text)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells)
    except (ValueError, KeyError, TypeError):
        return ""
