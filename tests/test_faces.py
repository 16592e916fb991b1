"""The faces: what each package of hpkit hands on by its __init__.py, lazily."""

import ast
import importlib
import itertools
from pathlib import Path

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
    """Module -> names, of what the face imports under TYPE_CHECKING."""
    names = {}
    for node in ast.walk(ast.parse(face_of(package))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom), ast.unparse(statement)
                module = statement.module.removeprefix(f"hpkit.{package}.")
                names[module] = {alias.name for alias in statement.names}
    return names


def handed_on(package: str) -> dict[str, set[str]]:
    """Module -> names, of what the face gives to lazy_loader."""
    for node in ast.walk(ast.parse(face_of(package))):
        if isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            names = ast.literal_eval(node.value)
            return {module: set(of_module) for module, of_module in names.items()}
    pytest.fail(f"hpkit.{package} hands on nothing")


def test_there_are_packages():
    assert {"corpus", "finetune", "widgets"} <= set(PACKAGES)


def test_a_face_hands_on_what_it_imports_for_checkers(package):
    """import-linter reads the one list, Python the other: an arrow in one alone would go unseen."""
    assert handed_on(package) == imported_for_checkers(package)


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
