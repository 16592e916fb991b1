"""The text of a script or notebook as one syntax tree; lines of IPython's own and broken cells are kept out of it."""

import ast
import json
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput

_CELL = 1_000_000  # lines of a notebook's cell n are counted from n times this
# Cell magics whose body is Python, those whose body surely sets no name of the notebook, and line magics that may set any name.
_PYTHON_MAGICS = {"time", "timeit", "capture", "prun", "memit", "wandb"}
_OTHER_MAGICS = set(
    "bash sh script cmd html javascript js latex markdown svg writefile file perl ruby".split()
)
_SETTING_MAGICS = set(
    "run store load loadpy pylab macro edit recall rerun rep paste cpaste reset reset_selective xdel".split()
)
_WORD = r"import \*|\w+"


def _magic(line: str) -> str | None:
    """Python that stands for a line of IPython's own; None where the line is no such line."""
    text = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if timed := re.match(r"%(?:time|prun)\s+(?!-)(.+)", text):
        return indent + timed[1]
    if assigned := re.match(r"([\w.,\s\[\]'\"]+?)\s*=\s*[%!]", text):
        return f"{indent}{assigned[1]} = ..."
    word = re.match(r"%+(\w*)", text)
    own = (
        word
        or text.startswith(("!", "?"))
        or (text.endswith("?") and not re.search("[#'\"]", text))
    )
    return (
        indent + ("globals()" if word and word[1] in _SETTING_MAGICS else "pass") if own else None
    )


def _parse(source: str, shift: int = 0) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape sequence is no concern of ours
        tree = compile(
            source,
            "<text>",
            "exec",
            ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
    return ast.increment_lineno(tree, shift) if shift else tree


def _parse_magics(source: str, shift: int) -> ast.Module:
    """A cell's tree. Where Python stumbles over a line of IPython's own, the line is replaced; those inside texts are left alone."""
    margin = re.match(r"(?:[ \t]*\n)*([ \t]*)", source)[1]
    lines = re.sub(f"(?m)^{margin}", "", source).split("\n")
    while True:
        try:
            return _parse("\n".join(lines), shift)
        except SyntaxError as error:
            at = min(error.lineno or 1, len(lines)) - 1
            while at > 0 and lines[at - 1].rstrip().endswith("\\"):
                at -= 1
            replaced = _magic(lines[at])
            if replaced in (None, lines[at]):
                raise
            while lines[at].rstrip().endswith("\\") and at + 1 < len(
                lines
            ):  # a shell line that goes on
                lines[at], replaced, at = replaced.rstrip("\\ "), "", at + 1
            lines[at] = replaced.rstrip("\\ ")


def _parse_cell(source: str, number: int, notes: list) -> tuple[list, list]:
    """(statements, names that may hold anything) of one code cell; one that is not Python, or not right, loses all its names."""
    head = re.match(r"\s*%%(\w+).*", source)
    if head and head[1] not in _PYTHON_MAGICS:
        if re.search(r"TrainingArguments|\wConfig\(", source):
            notes.append(f"cell {number}: %%{head[1]} is not Python of this notebook, passed over")
        return [], re.findall(_WORD, head[0] if head[1] in _OTHER_MAGICS else source)
    try:
        body = _parse_magics(source, number * _CELL).body
        inside = head and head[1] in ("timeit", "prun")  # what these assign stays inside them
        return body, re.findall(_WORD, source if inside else head[0] if head else "")
    except (SyntaxError, ValueError) as error:
        line, reason = (
            getattr(error, "lineno", None) or 1,
            " ".join(str(getattr(error, "msg", error)).split()),
        )
        notes.append(f"cell {number}, line {line}: syntax error, passed over: {reason}")
        return [], re.findall(_WORD, source)


def _cells(text: str, file: str) -> list[tuple[int, str]]:
    """(number, source) of the code cells of a notebook. Raises BadInput."""
    remedy = "open it in JupyterLab and save it again"
    try:
        notebook = json.loads(text)
    except ValueError as error:
        raise BadInput(
            f"{file}: expected a notebook, which is JSON; got {error}; {remedy}"
        ) from None
    notebook = notebook if isinstance(notebook, dict) else {}
    if "worksheets" in notebook:
        raise BadInput(
            f"{file}: expected a notebook of format 4, got format 3 (worksheets); {remedy}"
        )
    cells = notebook.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise BadInput(f'{file}: expected a notebook, got JSON without a list of "cells"; {remedy}')
    match notebook.get("metadata"):
        case {"kernelspec": {"language": str(language)}} | {
            "language_info": {"name": str(language)}
        } if language:
            if not language.lower().startswith(("python", "ipython")):
                raise BadInput(
                    f"{file}: expected a notebook in Python, got one in {language}; give a Python notebook or script"
                )
    found = []
    for number, cell in enumerate(cells, 1):
        source = cell.get("source", "")
        source = source if isinstance(source, list) else [source]
        if cell.get("cell_type") == "code":
            if not all(isinstance(part, str) for part in source):
                raise BadInput(
                    f"{file}, cell {number}: expected its source as text, got something else; {remedy}"
                )
            found.append((number, "".join(source).replace("\r\n", "\n").replace("\r", "\n")))
    return found


def _text(path: Path, file: str) -> str:
    """The file's text. Raises BadInput."""
    if path.suffix.lower() not in (".py", ".ipynb"):
        ending = path.suffix or "no ending"
        raise BadInput(
            f"{file}: expected a Python script (.py) or a notebook (.ipynb), got {ending}; give one of these"
        )
    try:
        if "\0" in file or not path.exists():
            raise BadInput(
                f"{file!r}: expected a script or notebook, found no such file; check the path"
            )
        if not path.is_file():
            raise BadInput(
                f"{file}: expected a file, got a folder or a device; give the script or notebook itself"
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file}: expected UTF-8 text, got byte {error.start} that is not; save it as UTF-8"
        ) from None


@dataclass(frozen=True)
class Source:
    """What a file says. `lost`: names that text which could not be read may have set. `notes`: one line on each such text.

    Line numbers in `tree` are the file's, or, in a notebook, what `place` turns into cell and line.
    """

    file: str
    tree: ast.Module
    lost: list[str]
    notes: list[str]
    notebook: bool

    def place(self, line: int) -> tuple[int | None, int]:
        """(cell among all cells from 1, None in a script; line within it)."""
        return divmod(line, _CELL) if self.notebook else (None, line)


def read_source(path: str | Path) -> Source:
    """Read a .py or .ipynb file without running it. Raises BadInput for anything else, and for a script that is not Python."""
    file, path = str(path), Path(path)
    text, notes, body, lost = _text(path, file), [], [], []
    notebook = path.suffix.lower() == ".ipynb"
    with nesting_is_bad_input(file):
        try:
            for number, source in _cells(text, file) if notebook else ():
                parsed, names = _parse_cell(source, number, notes)
                body, lost = body + parsed, lost + names
            top = []
            for node in body if notebook else _parse(text).body:  # the file is the one that is run
                main = (
                    isinstance(node, ast.If)
                    and not node.orelse
                    and ast.unparse(node.test) == "__name__ == '__main__'"
                )
                top += node.body if main else [node]
        except SyntaxError as error:
            place = f", line {error.lineno}" if error.lineno else ""
            raise BadInput(
                f"{file}{place}: expected Python, got a syntax error ({error.msg}); mend the line and check again"
            ) from None
        except BadInput:
            raise
        except ValueError as error:  # null bytes, surrogates
            raise BadInput(
                f"{file}: expected Python, got text it cannot hold ({error}); remove it and check again"
            ) from None
    return Source(file, ast.Module(top, []), lost, notes, notebook)


@contextmanager
def nesting_is_bad_input(file: str):
    """Python's parser and every walk of a tree give up where expressions are nested thousands deep."""
    try:
        yield
    except (RecursionError, MemoryError):
        raise BadInput(
            f"{file}: expected code a person wrote, got expressions nested too deep to read; split them up"
        ) from None
