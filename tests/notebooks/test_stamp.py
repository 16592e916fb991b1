"""After a fork: the guard sees a badge of another repository, and one command mends badges, set-up
cells and README."""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
sys.path.append(str(ROOT / "notebooks"))
import build  # noqa: E402, the project's own script, in no package

HERE, REF = build.address()
THERE = "https://github.com/a-fork/kit"
#: The checks that a fork meets first.
GUARD = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/notebooks/test_notebooks.py"]
GUARD += ["-k", "badge_and_set_up or outputs_belong or the_documents"]


@pytest.fixture
def fork(tmp_path):
    """A copy of the project, its [project.urls] those of another owner, and a way to run Python in
    it."""
    for name in ("hpkit", "data", "notebooks", "tests/notebooks", "tests/colab"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    change(tmp_path / "pyproject.toml", HERE, THERE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return tmp_path, python


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(before, after), encoding="utf-8")


def outputs_of(file: Path) -> list:
    return [cell.get("outputs") for cell in nbformat.read(file, as_version=4).cells]


@pytest.mark.slow
def test_a_badge_of_another_repository_is_seen_and_mended(fork):
    folder, python = fork
    files = sorted((folder / "notebooks").glob("*.ipynb"))
    kept = list(map(outputs_of, files))

    seen = python(*GUARD).stdout
    for file in files:
        assert (
            f"{file.name}, badge: not that of [project.urls] in pyproject.toml: run `make stamp`"
            in seen
        )

    stamped = python("notebooks/build.py", "--stamp")
    assert (stamped.returncode, stamped.stdout, stamped.stderr) == (0, "", "")
    mended = python(*GUARD)
    assert mended.returncode == 0, mended.stdout
    for file in [*files, folder / "README.md"]:
        text = file.read_text(encoding="utf-8")
        assert f"/github/a-fork/kit/blob/{REF}/notebooks/" in text
        assert HERE.removeprefix("https://") not in text
    assert list(map(outputs_of, files)) == kept


@pytest.mark.parametrize(
    "remote, address",
    [
        ("https://github.com/a-fork/kit", THERE),
        ("https://github.com/a-fork/kit.git", THERE),
        ("https://github.com/a-fork/kit.js.git/", f"{THERE}.js"),
        ("https://somebody@github.com/a-fork/kit.git", THERE),
        ("https://somebody:t0ken@github.com/a-fork/kit.git", THERE),
        ("git@github.com:a-fork/kit.git", THERE),
        ("ssh://git@github.com/a-fork/kit.git", THERE),
        ("https://gitlab.com/a-fork/kit.git", None),
        ("https://github.com.evil.example/a-fork/kit", None),
        ("https://evil.example/@github.com/a-fork/kit", None),
        ("https://github.com/a-fork", None),
        ("https://github.com/a-fork/kit/tree/main", None),
        ("../kit", None),
        ("", None),
    ],
)
def test_the_address_of_a_remote(remote, address):
    assert build.github_address(remote) == address


def git(folder: Path, *arguments: str) -> str:
    # The checkout may belong to somebody else; and settings of one's own may rewrite addresses.
    settings = ["safe.directory=*", "user.name=test", "user.email=test@localhost"]
    command = ["git"]
    for setting in settings:
        command += ["-c", setting]
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A repository of what git has of this one, with what is not yet committed."""
    folder = tmp_path_factory.mktemp("published")
    for name in git(ROOT, "ls-files", "-z").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "-q", "-m", "published")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["https://{token}@github.com/", "git@github.com:"])
def test_a_clone_takes_its_address_from_its_origin(published, tmp_path, form):
    git(tmp_path, "clone", "-q", str(published), "kit")
    clone = tmp_path / "kit"
    token = secrets.token_hex(16)
    git(clone, "remote", "set-url", "origin", f"{form.format(token=token)}a-fork/kit.git")
    stamped = subprocess.run(
        [sys.executable, "notebooks/build.py", "--stamp"],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone), "GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
    )
    assert (stamped.returncode, stamped.stdout, stamped.stderr) == (0, "", "")
    changed = git(clone, "diff", "--name-only").split()
    notebooks = [f"notebooks/{file.name}" for file in sorted(FOLDER.glob("*.ipynb"))]
    documents = ["notebooks/GOING_FURTHER.md", "pyproject.toml"]
    assert changed == ["README.md", *notebooks, *documents]
    assert f'Ref = "{THERE}/tree/{REF}"' in (clone / "pyproject.toml").read_text(encoding="utf-8")
    # Nobody's name, which the published pages have; spelt apart, or this file would have it too.
    nobody = "-".join(("your", "name"))
    for name in git(clone, "ls-files", "-z").split("\0")[:-1]:
        content = (clone / name).read_bytes()
        for gone in (HERE.removeprefix("https://"), nobody, token):
            assert gone.encode() not in content, (name, gone)


@pytest.mark.slow
@pytest.mark.parametrize("origin", [None, "https://gitlab.com/a-fork/kit.git"])
def test_without_an_origin_on_github_the_address_stays(fork, origin):
    folder, python = fork
    change(folder / "pyproject.toml", THERE, HERE)
    if origin:
        git(folder, "init", "-q")
        git(folder, "remote", "add", "origin", origin)
    stamped = python("notebooks/build.py", "--stamp", "06_seed")
    assert (stamped.returncode, stamped.stdout, stamped.stderr) == (0, "", "")
    for name in ("pyproject.toml", "README.md", "notebooks/06_seed.ipynb"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.slow
def test_half_a_change_is_one_line(fork):
    folder, python = fork
    change(folder / "pyproject.toml", f'Ref = "{THERE}', f'Ref = "{HERE}')
    stamped = python("notebooks/build.py", "--stamp")
    assert stamped.returncode == 2 and stamped.stderr.count("\n") == 1
    assert stamped.stderr.startswith(
        "[project.urls] of pyproject.toml: expected Repository = https://github.com/OWNER/REPO"
    )
    assert stamped.stderr.endswith(f"got {THERE} and {HERE}/tree/{REF}\n")
