"""The faces: what each package of hpkit hands on by its __init__.py, lazily."""

import ast
import importlib
import itertools
from pathlib import Path
from unittest.mock import patch

import pytest

import hpkit

FOLDER = Path(hpkit.__file__).parent
PACKAGES = sorted(file.parent.name for file in FOLDER.glob("*/__init__.py"))


@pytest.fixture(params=PACKAGES)
def package(request) -> str:
    return request.param


def face_of(package: str) -> str:
    return (FOLDER / package / "__init__.py").read_text(encoding="utf-8")


def imported_for_checkers(package: str) -> dict[str, set[str]]:
    """Module -> names, of what the face imports under TYPE_CHECKING; no names: the whole module."""
    names = {}
    for node in ast.walk(ast.parse(face_of(package))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom), ast.unparse(statement)
                imported = {alias.name for alias in statement.names}
                if statement.module == f"hpkit.{package}":
                    names |= {module: set() for module in imported}
                else:
                    names[statement.module.removeprefix(f"hpkit.{package}.")] = imported
    return names


def handed_on(package: str) -> dict[str, set[str]]:
    """Module -> names, of what the face gives to lazy_loader, however it writes that."""
    with patch("lazy_loader.attach", return_value=(None, None, None)) as attach:
        exec(face_of(package), {"__name__": f"hpkit.{package}"})
    names = attach.call_args.kwargs["submod_attrs"]
    return {module: set(of_module) for module, of_module in names.items()}


def test_there_are_packages():
    assert {"corpus", "finetune", "widgets"} <= set(PACKAGES)


def test_a_face_hands_on_what_it_imports_for_checkers(package):
    """import-linter reads the one list, Python the other: an arrow in one alone would go unseen."""
    imported = imported_for_checkers(package)
    names = handed_on(package)
    assert names.keys() == imported.keys()
    for module, of_module in imported.items():
        assert not of_module or of_module == names[module]


def test_what_a_face_hands_on_is_there(package):
    face = importlib.import_module(f"hpkit.{package}")
    names = handed_on(package)
    for module, of_module in names.items():
        origin = importlib.import_module(f"hpkit.{package}.{module}")
        for name in of_module:
            assert getattr(face, name) is getattr(origin, name)
    # Sorted and not as a set: of a name that two files have, the face would hand on one.
    assert sorted(face.__all__) == sorted(itertools.chain(*names.values()))


def test_no_file_has_the_name_of_what_a_face_hands_on(package):
    """Importing the file would put the module where the function was."""
    files = {file.stem for file in (FOLDER / package).iterdir()}
    assert not files & set(importlib.import_module(f"hpkit.{package}").__all__)


def test_a_face_is_short(package):
    assert len(face_of(package).splitlines()) < 40
