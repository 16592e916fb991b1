"""The pre-commit hook in a repository, and the GitHub action's script as GitHub runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .examples import write

ROOT = Path(__file__).parents[2]
BAD = "from transformers import TrainingArguments\nTrainingArguments('o', bf16=True, fp16=True)\n"
GOOD = "from transformers import TrainingArguments\nTrainingArguments('o', max_steps=500)\n"


def environment(**more) -> dict:
    """As this process, with this Python's commands first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path} | more


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run(("git", *who, *arguments), cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_pre_commit_in_a_repository(tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    write(repository, BAD, "tune.py")
    write(repository, "per_device_train_batch_size: 2\noutput_dir: o\nbf16: true\n", "r.yaml")
    write(repository, "print(1)\n", "other.py")
    git(repository, "add", ".")
    # The hook's own file, in a repository of the test: this one may hold changes that are none of
    # any commit yet.
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    text = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    write(hooks, text, ".pre-commit-hooks.yaml")
    git(hooks, "init", "-q")
    git(hooks, "add", ".")
    git(hooks, "commit", "-q", "-m", "hooks")
    head = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=hooks, check=True, capture_output=True, text=True
    ).stdout.strip()
    config = {"repos": [{"repo": str(hooks), "rev": head, "hooks": [{"id": "hpkit-check"}]}]}
    write(repository, yaml.safe_dump(config), ".pre-commit-config.yaml")
    git(repository, "add", ".")

    def run(*files: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            (sys.executable, "-m", "pre_commit", "run", "hpkit-check", "--files", *files),
            cwd=repository,
            capture_output=True,
            text=True,
            env=environment(PRE_COMMIT_HOME=str(tmp_path / "cache")),
        )

    both = run("tune.py", "r.yaml")
    assert both.returncode == 1, both.stdout + both.stderr
    assert "tune.py:2: error both-halves" in both.stdout
    assert run("other.py").returncode == 0  # it sets nothing, and nobody named it
    write(repository, GOOD, "tune.py")
    assert run("tune.py", "r.yaml").returncode == 0


def steps() -> list[dict]:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    return action["runs"]["steps"]


def as_github_runs(step: dict, folder: Path, **values) -> subprocess.CompletedProcess:
    """A `shell: bash` step: its script in a file, run by bash with these flags."""
    script = folder / "step.sh"
    script.write_text(step["run"], encoding="utf-8")
    command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", str(script))
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment(**values)
    )


def test_the_actions_script(tmp_path):
    write(tmp_path, BAD, "tune.py")
    write(tmp_path, GOOD, "good.py")
    check = steps()[1]
    assert set(check["env"]) == {"PATHS", "STRICT"}
    done = as_github_runs(check, tmp_path, PATHS="good.py tune.py", STRICT="false")
    assert done.returncode == 1 and "::error file=tune.py,line=2" in done.stdout
    done = as_github_runs(check, tmp_path, PATHS="good.py", STRICT="true")
    assert done.returncode == 0 and "nothing found" in done.stdout


@pytest.mark.slow
def test_the_actions_installation_needs_no_torch(tmp_path):
    """A bare Python, as `setup-python` leaves it."""
    subprocess.run((sys.executable, "-m", "venv", tmp_path / "bare"), check=True)
    bare = f"{tmp_path / 'bare' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    write(tmp_path, BAD, "tune.py")
    install, check = steps()
    values = dict(PATH=bare, GITHUB_ACTION_PATH=str(ROOT), TRANSFORMERS="transformers==5.23.0")
    done = as_github_runs(install, tmp_path, **values)
    assert done.returncode == 0, done.stdout + done.stderr
    done = as_github_runs(check, tmp_path, PATH=bare, PATHS=".", STRICT="false")
    assert done.returncode == 1 and "both-halves" in done.stdout, done.stdout + done.stderr
    listed = subprocess.run(
        (tmp_path / "bare" / "bin" / "python", "-m", "pip", "list"), capture_output=True, text=True
    )
    assert "\ntorch " not in listed.stdout
