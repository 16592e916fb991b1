"""Colab's runtime, as near as a CPU with Python's venv comes to it, and a mirror from which hpkit
is installed as if from GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "notebooks"))
import build  # noqa: E402, the project's own script, in no package


def plain() -> dict[str, str]:
    """This process's environment, without what would show one Python's packages to another."""
    environment = dict(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return environment


def run(*command, hint: str = "") -> str:
    """The output of a command. If it fails or is not there, the test ends with one line: what is
    missing, and its last words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=plain())
    except FileNotFoundError:
        pytest.fail(
            f"no command `{command[0]}`, which the tests of Colab need: install it", pytrace=False
        )
    if done.returncode:
        words = " ".join((done.stderr or done.stdout)[-500:].split())
        pytest.fail(f"{hint}`{' '.join(map(str, command))}` failed: {words}", pytrace=False)
    return done.stdout


def stamped(name: str):
    """A stored notebook as the next `make notebooks` would run it."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    build.stamp(notebook, name)
    return notebook


class Colab(NamedTuple):
    """An environment with Colab's versions, `python`; and `folder`, where a test may write.

    `ipython`: the IPYTHONDIR of its kernels, in which trainings end after a few updates.
    """

    python: Path
    folder: Path
    ipython: Path

    def freeze(self) -> dict[str, str]:
        """What pip says is installed: versions, or addresses, by name."""
        lines = run(self.python, "-m", "pip", "freeze", "--disable-pip-version-check").splitlines()
        return dict(re.split(r"==| @ ", line, maxsplit=1) for line in lines)

    def environment(self, mirror: Path) -> dict[str, str]:
        """As Colab's kernel sees it, but that github.com is the folder `mirror`; and trainings end
        after a few updates."""
        environment = plain() | {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{mirror}/.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/",
            "GIT_CONFIG_GLOBAL": os.devnull,  # somebody's own might send github.com elsewhere
            "GIT_TERMINAL_PROMPT": "0",
            "IPYTHONDIR": str(self.ipython),
            "HF_HUB_OFFLINE": "1",
        }
        for name in ("HPKIT_CACHE", "MPLCONFIGDIR", "HF_HOME"):
            environment[name] = str(self.folder / name.lower())
        return environment

    def execute(self, notebook, mirror: Path, folder: Path):
        """Run a notebook from top to bottom in `folder`; an error in a cell raises nbclient's
        CellExecutionError."""
        kernel = KernelManager(
            kernel_name="colab",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(self.folder / "kernels")]),
            # No ports, which a kernel of the browser's layer, beside this one, might take first.
            transport="ipc",
            connection_file=str(folder / "kernel.json"),
        )
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=300,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=self.environment(mirror), cleanup_kc=True)
        return notebook


@pytest.fixture(scope="session")
def colab(tmp_path_factory, short_ipython):
    """The environment, made once: some minutes, most of them for downloads. Two gigabytes, so it
    does not outlive the session."""
    folder = tmp_path_factory.mktemp("colab")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    install += ["--no-compile", "-r", Path(__file__).with_name("requirements.txt")]
    run(*install, hint="PyPI must be in reach: ")
    kernel = folder / "kernels" / "colab" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    yield Colab(python, folder, short_ipython)
    shutil.rmtree(folder / "venv")


@pytest.fixture(scope="session")
def make_mirror(tmp_path_factory):
    """`make_mirror(change)`: a folder that has the project, with what is not yet committed, at
    OWNER/REPO under its ref.

    `change(folder)` may alter the project's files first.
    """

    def make(change=lambda folder: None) -> Path:
        repository, ref = build.address()
        mirror = tmp_path_factory.mktemp("mirror")
        target = mirror / repository.removeprefix("https://github.com/")
        for name in names_of_files():
            # What is deleted and not yet committed has a name there, and no file.
            if (ROOT / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target / name)
        change(target)
        run("git", "init", "-q", "-b", ref, target)
        git = ["git", "-C", target, "-c", "user.name=test", "-c", "user.email=test@localhost"]
        run(*git, "add", "--all", "--force")
        run(*git, "commit", "-q", "-m", "mirror")
        return mirror

    return make


def names_of_files() -> list[str]:
    """Of the project: what git has, and what it would take."""
    git = ["git", "-c", "safe.directory=*", "-C", ROOT]
    return run(*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
