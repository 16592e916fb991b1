"""The versions that a file runs with: its own installs, its launcher's, its project's."""

from collections.abc import Iterable
from pathlib import Path

from hpkit.check.launchers import pins_of_launcher
from hpkit.check.projects import pins_of_project, transformers_elsewhere
from hpkit.check.requirements import pins
from hpkit.preflight.libraries import pins_that_fit
from hpkit.preflight.written import ELSEWHERE, ITSELF, NOWHERE


def pins_of(file: str, texts: Iterable[str]) -> tuple[dict[str, str], str]:
    """(package -> specifier, who says so) of a file; of its project where the file is silent."""
    own = pins(texts)
    path = Path(file).absolute()
    project = pins_of_project(path.parent)
    launcher = {}
    # Notebooks are long to read, and one version is not said more exactly by another file.
    if not project.get("transformers", "").startswith("=="):
        launcher = pins_of_launcher(path)
    if path.suffix == ".py":
        # A script's words on what to install from the repository are about the project's commit.
        own = {name: pin for name, pin in own.items() if pin or "===" not in project.get(name, "")}
    asked = {**project, **launcher, **own}
    # A TRL, with or without a version, says which transformers is beside it.
    elsewhere = "" if {"transformers", "trl"} & set(asked) else transformers_elsewhere(path.parent)
    if elsewhere is None:
        return {package: pin for package, pin in asked.items() if pin}, NOWHERE
    if elsewhere:
        asked["transformers"] = elsewhere
    asked = pins_that_fit({package: pin for package, pin in asked.items() if pin})
    if any(own.values()):
        return asked, ITSELF
    if elsewhere:
        return asked, ELSEWHERE
    return asked, "its launcher installs" if launcher else "its project names"
