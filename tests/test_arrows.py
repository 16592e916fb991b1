"""The arrows that must never be: the contracts cover what they should, and each can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from hpkit.files import read_toml

ROOT = Path(__file__).parents[1]
CONTRACTS = read_toml(ROOT / "pyproject.toml", "project")["tool"]["importlinter"]["contracts"]

#: (contract, file, line of an import that breaks it); some of them through a lazy face.
BROKEN = [
    ("a training draws", "finetune/training.py", "from hpkit.figures.runs import loss_picture"),
    ("a training draws", "finetune/run.py", "from hpkit.figures import loss_picture"),
    ("a picture knows", "figures/charts.py", "from hpkit.labs.formats import FORMATS"),
    ("preflight looks", "preflight/plan.py", "from hpkit.finetune import train"),
    ("a lab measures", "labs/search.py", "from hpkit.lessons.exercise import usual_point"),
    ("a lesson knows", "lessons/exercise.py", "from hpkit.widgets.base import slider"),
    ("recorded runs", "records/table.py", "import hpkit.widgets.runs"),
    ("the ground", "memory.py", "from hpkit.preflight import preflight"),
]


def lint(folder: Path) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package's sources, with the contracts beside it."""
    for file in (ROOT / "hpkit").rglob("*.py"):
        place = tmp_path / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def test_the_contracts_hold(copy):
    clean = lint(copy)
    assert clean.returncode == 0, clean.stdout


@pytest.mark.parametrize("contract, file, line", BROKEN)
def test_a_contract_sees_a_broken_import(contract, file, line, copy):
    place = copy / "hpkit" / file
    place.write_text(f"{place.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")
    after = lint(copy)
    broken = [row for row in after.stdout.splitlines() if row.endswith("BROKEN")]
    assert after.returncode == 1 and len(broken) == 1 and broken[0].startswith(contract)


def test_a_face_hands_on_nothing_that_is_hidden_from_the_contracts(copy):
    """A face of records that handed on a widget: the import is written where the checker looks."""
    face = copy / "hpkit" / "records" / "__init__.py"
    source = face.read_text(encoding="utf-8")
    first = "    from hpkit.records."
    assert first in source
    spoilt = source.replace(first, f"    from hpkit.widgets.runs import RunExplorer\n{first}", 1)
    face.write_text(spoilt, encoding="utf-8")
    assert "recorded runs stand below what is shown of them BROKEN" in lint(copy).stdout


def test_every_file_at_the_top_is_part_of_the_ground():
    (ground,) = (one for one in CONTRACTS if one["name"].startswith("the ground"))
    files = {f"hpkit.{file.stem}" for file in (ROOT / "hpkit").glob("*.py")}
    assert set(ground["source_modules"]) == files - {"hpkit.__init__", "hpkit.__main__"}
    packages = {f"hpkit.{face.parent.name}" for face in (ROOT / "hpkit").glob("*/__init__.py")}
    assert set(ground["forbidden_modules"]) == packages - {"hpkit.corpus"}


def test_all_contracts_are_on_direct_imports():
    assert all(one["allow_indirect_imports"] is True for one in CONTRACTS)
    assert {name for name, _, _ in BROKEN} == {
        next(start for start, _, _ in BROKEN if one["name"].startswith(start)) for one in CONTRACTS
    }
