"""The text of a script or notebook as one syntax tree.

Lines of IPython's own (`!pip install`, `%cd`, `%%bash`, `name?`) and broken cells are kept out of
it. A name that they may have set counts as one that may hold anything.
"""

import ast
import json
import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hpkit.errors import BadInput

# Lines of a notebook's cell n count from n times this, so that a line alone tells its cell.
_CELL = 1_000_000
# Cell magics whose body is Python.
_PYTHON_MAGICS = {"time", "timeit", "capture", "prun", "memit", "wandb"}
# Of these, what the body assigns stays inside it.
_LOCAL_MAGICS = {"timeit", "prun"}
# Cell magics whose body surely sets no name of the notebook.
_OTHER_MAGICS = {
    "bash",
    "sh",
    "script",
    "cmd",
    "html",
    "javascript",
    "js",
    "latex",
    "markdown",
    "svg",
    "writefile",
    "file",
    "perl",
    "ruby",
}
# Line magics that may set any name.
_SETTING_MAGICS = {
    "run",
    "store",
    "load",
    "loadpy",
    "pylab",
    "macro",
    "edit",
    "recall",
    "rerun",
    "rep",
    "paste",
    "cpaste",
    "reset",
    "reset_selective",
    "xdel",
}
# What a text that is not read may set: any of its words, and after `import *` any name at all.
_WORD = r"import \*|\w+"
_SAVE_AGAIN = "open it in JupyterLab and save it again"


def _magic(line: str) -> str | None:
    """Python that stands for a line of IPython's own; None where the line is no such line."""
    text = line.strip()
    # Kept, since the line may be the whole body of an `if`.
    indent = line[: len(line) - len(line.lstrip())]
    timed = re.match(r"%(?:time|prun)\s+(?!-)(.+)", text)
    if timed:
        return indent + timed[1]
    assigned = re.match(r"([\w.,\s\[\]'\"]+?)\s*=\s*[%!]", text)  # `files = !ls`
    if assigned:
        return f"{indent}{assigned[1]} = ..."
    magic = re.match(r"%+(\w*)", text)
    if magic and magic[1] in _SETTING_MAGICS:
        return indent + "globals()"  # whatever follows may have any value
    is_help = text.endswith("?") and not re.search("[#'\"]", text)  # no comment, no text
    if magic or is_help or text.startswith(("!", "?")):
        return indent + "pass"
    return None


def _parse(source: str, shift: int = 0) -> ast.Module:
    """The tree of Python text, with `shift` added to its line numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape sequence is no concern of ours
        tree = compile(
            source,
            "<text>",
            "exec",
            ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,  # notebooks await in cells
            dont_inherit=True,
        )
    return ast.increment_lineno(tree, shift) if shift else tree


def _parse_magics(source: str, shift: int) -> ast.Module:
    """A cell's tree. Where Python stumbles over a line of IPython's own, the line is replaced.

    Such lines inside texts are left alone, since Python does not stumble there.
    """
    # A cell may be indented as a whole, which IPython takes and Python does not.
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
            # A shell line that goes on: its lines stay, empty, and line numbers hold.
            while lines[at].rstrip().endswith("\\") and at + 1 < len(lines):
                lines[at] = replaced.rstrip("\\ ")
                replaced = ""
                at += 1
            lines[at] = replaced.rstrip("\\ ")


def _parse_cell(source: str, number: int, notes: list) -> tuple[list, list]:
    """(statements, names that may hold anything) of one code cell.

    One that is not Python, or not right, loses all its names, with a note.
    """
    # Only as the first thing in a cell is `%%bash` a cell magic.
    head = re.match(r"\s*%%(\w+).*", source)
    if head and head[1] not in _PYTHON_MAGICS:
        if re.search(r"TrainingArguments|\wConfig\(", source):
            notes.append(f"cell {number}: %%{head[1]} is not Python of this notebook, passed over")
        sets_no_name = head[1] in _OTHER_MAGICS
        return [], re.findall(_WORD, head[0] if sets_no_name else source)
    try:
        body = _parse_magics(source, number * _CELL).body
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line = getattr(error, "lineno", None) or 1
        reason = " ".join(str(getattr(error, "msg", error)).split())
        what = "syntax error"
        if _may_need_a_newer_python(error):
            what = "it may need Python 3.12 to be read"
        notes.append(f"cell {number}, line {line}: {what}, passed over: {reason}")
        return [], re.findall(_WORD, source)
    if head is None:
        return body, []
    if head[1] in _LOCAL_MAGICS:
        return body, re.findall(_WORD, source)
    return body, re.findall(_WORD, head[0])  # `%%capture output` sets a name itself


def _shell_text(source: str) -> str:
    """The shell lines of a cell at their lines, all others empty; "" where there are none."""
    head = re.match(r"\s*%%(bash|sh|script)\b.*", source)
    if head:
        return source.replace(head[0], "", 1)
    lines = []
    goes_on = False
    for line in source.split("\n"):
        is_shell = goes_on or line.lstrip().startswith("!") or line.lstrip().startswith("%run ")
        lines.append(re.sub(r"^\s*(!|%run (?=\S))", "", line) if is_shell else "")
        if line.lstrip().startswith("%run "):
            lines[-1] = "python " + lines[-1].lstrip()
        goes_on = is_shell and line.rstrip().endswith("\\")
    return "\n".join(lines) if any(lines) else ""


def code_cells(text: str, file: str) -> list[tuple[int, str]]:
    """(number, source) of the code cells of a notebook. Raises BadInput."""
    try:
        notebook = json.loads(text)
    except ValueError as error:
        raise BadInput(
            f"{file}: expected a notebook, which is JSON; got {error}; {_SAVE_AGAIN}"
        ) from None
    if not isinstance(notebook, dict):
        notebook = {}
    if "worksheets" in notebook:
        raise BadInput(
            f"{file}: expected a notebook of format 4, got format 3 (worksheets); {_SAVE_AGAIN}"
        )
    cells = notebook.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise BadInput(
            f'{file}: expected a notebook, got JSON without a list of "cells"; {_SAVE_AGAIN}'
        )
    _require_python(notebook, file)
    found = []
    for number, cell in enumerate(cells, 1):
        if cell.get("cell_type") == "code":
            found.append((number, _cell_text(cell, f"{file}, cell {number}")))
    return found


def _require_python(notebook: dict, file: str):
    """Raises BadInput for a notebook that names another language; one that names none passes."""
    match notebook.get("metadata"):
        case {"kernelspec": {"language": str(language)}} | {
            "language_info": {"name": str(language)}
        } if language:
            if not language.lower().startswith(("python", "ipython")):
                raise BadInput(
                    f"{file}: expected a notebook in Python, got one in {language}; "
                    "give a Python notebook or script"
                )


def _cell_text(cell: dict, where: str) -> str:
    """A cell's source, which the format allows to be one text or a list of lines."""
    source = cell.get("source", "")
    if not isinstance(source, list):
        source = [source]
    if not all(isinstance(part, str) for part in source):
        raise BadInput(f"{where}: expected its source as text, got something else; {_SAVE_AGAIN}")
    return "".join(source).replace("\r\n", "\n").replace("\r", "\n")


def _require_suffix(path: Path) -> None:
    if path.suffix.lower() not in (".py", ".ipynb"):
        ending = path.suffix or "no ending"
        raise BadInput(
            f"{path}: expected a Python script (.py) or a notebook (.ipynb), got {ending}; "
            "give one of these"
        )


def require_file(file: str) -> None:
    """Raises BadInput where there is no such file."""
    path = Path(file)
    try:
        is_there = "\0" not in file and path.exists()  # a null byte alone would be a ValueError
    except OSError:  # a name that is too long for one
        is_there = False
    if not is_there:
        raise BadInput(f"{file!r}: expected a file or folder, found no such file; check the path")
    if not path.is_file():
        raise BadInput(f"{file}: expected a file, got a folder or a device")


def text_of(file: str) -> str:
    """The file's text. Raises BadInput."""
    try:
        require_file(file)
        return Path(file).read_bytes().decode("utf-8-sig")  # Windows writes a mark before the text
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file}: expected UTF-8 text, got byte {error.start} that is not; save it as UTF-8"
        ) from None


@dataclass(frozen=True)
class Source:
    """What a file says.

    `lost`: names that text which could not be read may have set. `notes`: one line on each such
    text. Line numbers in `tree` are the file's, or, in a notebook, what `place` turns into cell
    and line. `texts`: the text of the script, or of each code cell. `shell_texts`: (cell, its shell
    lines), each at its line.
    """

    file: str
    tree: ast.Module
    lost: list[str]
    notes: list[str]
    notebook: bool
    texts: list[str] = field(default_factory=list)
    shell_texts: list[tuple[int, str]] = field(default_factory=list)

    def place(self, line: int) -> tuple[int | None, int]:
        """(cell among all cells from 1, None in a script; line within it)."""
        if self.notebook:
            return divmod(line, _CELL)
        return None, line

    def shown_place(self, line: int) -> str:
        """`cell 3, line 2`, or `line 2` in a script."""
        cell, line = self.place(line)
        if cell:
            return f"cell {cell}, line {line}"
        return f"line {line}"


def read_source(
    path: str | Path, text: str | None = None, is_notebook: bool | None = None
) -> Source:
    """Read a .py or .ipynb file, or its `text`, without running it.

    Raises BadInput for anything else, and for a script that is not Python.
    """
    file = str(path)
    path = Path(path)
    if text is None:
        _require_suffix(path)
        text = text_of(file)
    if is_notebook is None:
        is_notebook = path.suffix.lower() == ".ipynb"
    statements = []
    lost = []
    notes = []
    texts = []
    shell_texts = []
    with nesting_is_bad_input(file):
        if is_notebook:
            for number, source in code_cells(text, file):
                texts.append(source)
                shell = _shell_text(source)
                if shell:
                    shell_texts.append((number, shell))
                parsed, names = _parse_cell(source, number, notes)
                statements += parsed
                lost += names
        else:
            texts.append(text)
            statements = _parse_script(text, file)
        tree = ast.Module(_with_main(statements), [])
    return Source(file, tree, lost, notes, is_notebook, texts, shell_texts)


def _parse_script(text: str, file: str) -> list[ast.stmt]:
    """A script's statements. Raises BadInput."""
    try:
        return _parse(text).body
    except SyntaxError as error:
        place = f", line {error.lineno}" if error.lineno else ""
        if _may_need_a_newer_python(error):
            raise BadInput(
                f"{file}{place}: needs Python 3.12 to be read, or is wrong ({error.msg}); run "
                "hpkit with Python 3.12 or newer"
            ) from None
        raise BadInput(
            f"{file}{place}: expected Python, got a syntax error ({error.msg}); "
            "mend the line and check again"
        ) from None
    except ValueError as error:  # null bytes, surrogates
        raise BadInput(
            f"{file}: expected Python, got text it cannot hold ({error}); remove it and check again"
        ) from None


def _may_need_a_newer_python(error: Exception) -> bool:
    """From 3.12 on an f-string may hold its own quotation marks again, and backslashes."""
    return sys.version_info < (3, 12) and "f-string" in str(getattr(error, "msg", ""))


def _with_main(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with those under `if __name__ == "__main__":` in its place.

    The file counts as the one that is run, so that block is no branch.
    """
    top = []
    for node in statements:
        match node:
            case ast.If(
                test=ast.Compare(
                    left=ast.Name(id="__name__"),
                    ops=[ast.Eq()],
                    comparators=[ast.Constant(value="__main__")],
                ),
                orelse=[],
            ):
                top += node.body
            case _:
                top.append(node)
    return top


@contextmanager
def nesting_is_bad_input(file: str):
    """Python's parser and every walk of a tree give up where expressions nest thousands deep."""
    try:
        yield
    except (RecursionError, MemoryError):
        raise BadInput(
            f"{file}: expected code a person wrote, got expressions nested too deep to read; "
            "split them up"
        ) from None
