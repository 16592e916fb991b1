"""The repository as a whole: its size, its workflow, how the layers of tests are counted, and where
a run writes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import layers  # beside this file
import pytest
from ruamel.yaml import YAML

from hpkit.files import read_toml

ROOT = Path(__file__).parents[1]


def git(*arguments: str, stdin: bytes = b"") -> bytes:
    # In a container the checkout may belong to somebody else, and git would refuse to read it.
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, input=stdin).stdout


@pytest.mark.slow
def test_a_clone_is_small():
    """At most 40 MB: what is checked out, and its history as git sends it, packed."""
    names = git("ls-files", "-z").decode().split("\0")
    files = sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())
    history = len(git("pack-objects", "--stdout", "--revs", "-q", stdin=b"HEAD\n"))
    assert files + history < 40e6, (
        f"{files / 1e6:.0f} MB of files, {history / 1e6:.0f} MB of history"
    )


def commands_of_the_workflow() -> list[str]:
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    commands = []
    for job in YAML(typ="safe").load(text)["jobs"].values():
        commands += [step["run"] for step in job["steps"] if "run" in step]
    return commands


def test_the_workflow_runs_what_everybody_runs():
    _, *runs = commands_of_the_workflow()
    assert len(runs) == 2 and all(run.split()[:2] == ["make", "test"] for run in runs)
    wanted = runs[1].partition('WANTED="')[2].rstrip('"')
    assert "-e .[lab,test]" in wanted and "requirements.txt" not in wanted
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "make test"


def look_at_names(folder: Path, repository: str) -> subprocess.CompletedProcess:
    """The workflow's first command, as GitHub runs it in a checkout of this repository."""
    command = ["bash", "-e", "-c", commands_of_the_workflow()[0]]
    environment = os.environ | {"HERE": repository}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_workflow_sees_another_repositorys_badges(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("pyproject.toml", "README.md", "notebooks/06_seed.ipynb"):
        shutil.copy(ROOT / name, tmp_path / name)
    urls = read_toml(ROOT / "pyproject.toml", "project")["project"]["urls"]
    here = urls["Repository"].removeprefix("https://github.com/")
    for same in (here, here.upper()):  # to GitHub one name
        seen = look_at_names(tmp_path, same)
        assert (seen.returncode, seen.stdout, seen.stderr) == (0, "", "")
    for other in ("a-fork/kit", f"{here}-2", here[:-1]):
        seen = look_at_names(tmp_path, other)
        assert (seen.returncode, seen.stderr) == (1, "") and seen.stdout.count("\n") == 1
        assert (
            f"of another repository than {other}: pyproject.toml README.md notebooks/06"
            in seen.stdout
        )
        assert "run 'make stamp'" in seen.stdout
    notebook = tmp_path / "notebooks" / "06_seed.ipynb"
    notebook.write_text(notebook.read_text(encoding="utf-8").replace(here, "a-fork/kit"))
    seen = look_at_names(tmp_path, here)
    assert seen.returncode == 1 and f"than {here}: notebooks/06_seed.ipynb - run" in seen.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "code, passed, counts",
    [
        ("def test_a(): pass\ndef test_b(): pass", True, (2, 0, 0)),
        ("def test_a(): pass\ndef test_b(): assert 0", False, (2, 1, 0)),
        ("import pytest\ndef test_a(): pytest.skip('no')", False, (1, 0, 1)),
        ("import nothing_of_this_name", False, (1, 1, 0)),
        ("", False, (0, 1, 0)),  # a layer without tests has not passed
    ],
)
def test_a_layer_is_counted(code, passed, counts, tmp_path, monkeypatch):
    (tmp_path / "test_one.py").write_text(code)
    command = (*layers.PYTEST, "-p", "no:cacheprovider", str(tmp_path))
    monkeypatch.setitem(layers.LAYERS, "one", (command,))
    outcome = layers.run_layer("one")
    assert outcome.passed == passed
    assert (outcome.ran, outcome.failed, outcome.skipped) == counts
    verdict = "passed" if passed else "FAILED"
    assert outcome.line("one").startswith(f"one        {verdict}")


def test_a_command_that_fails_fails_its_layer(monkeypatch, capfd):
    good = (sys.executable, "-c", "pass")
    bad = (sys.executable, "-c", "raise SystemExit(1)")
    monkeypatch.setitem(layers.LAYERS, "one", (good, bad))
    assert layers.main(["one"]) == 1
    assert "one        FAILED     2 run, 1 failed" in capfd.readouterr().out
    assert layers.main(["on"]) == 2
    assert "expected some of style, modules" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_writes_in_its_folder_and_the_cache_alone(tmp_path, tiny_model, few_tunes):
    places = {name: tmp_path / name for name in ("home", "work", "cache", "tmp")}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "HPKIT_CACHE": str(places["cache"]),
        "MPLCONFIGDIR": str(places["cache"]),  # matplotlib keeps its list of fonts
    }
    environment.pop("XDG_CACHE_HOME", None)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hpkit", "finetune", "--out", str(out)]
    command += ["--model", tiny_model, "--corpus", few_tunes]
    command += "--max_seq_length 32 --max_steps 4 --warmup_steps 1".split()
    subprocess.run(
        command,
        cwd=places["work"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=600,
    )
    assert (out / "run.json").is_file()
    for name in ("home", "work", "tmp"):
        assert [file for file in places[name].rglob("*") if file.is_file()] == []
