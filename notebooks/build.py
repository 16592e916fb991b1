"""Stamp, execute and store the notebooks: `make notebooks`, or `python notebooks/build.py 02_warmup_and_schedules`.

Each gets the same badge and set-up cell, made from [project.urls] in pyproject.toml, runs from top to bottom in a fresh
kernel, and replaces the stored one only when every cell has run. An error in any cell ends with status 1. Then the README
gets the list of notebooks and the ledger of their claims, and the cheat sheet and the glossary are made from the cards.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from hpkit.cheat_sheet import cheat_sheet, glossary
from hpkit.claims import ledger_table, read_ledger
from hpkit.files import write_whole
from hpkit.recipe import read_toml

FOLDER = Path(__file__).parent
#: What the outputs depend on most; a notebook names the versions it was executed with.
VERSIONS = ("torch", "transformers", "bitsandbytes", "ipywidgets", "matplotlib")
_BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
_SETUP = """\
# Set-up: where hpkit is installed, this does nothing. Elsewhere, as on Colab, it installs hpkit and changes nothing that is there.
import importlib.util
import subprocess
import sys
import tempfile
from importlib.metadata import version

if importlib.util.find_spec("hpkit") is None:
    shipped = ("torch", "transformers", "numpy", "ipywidgets", "matplotlib")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write("".join(f"{{name}}=={{version(name)}}\\n" for name in shipped if importlib.util.find_spec(name)))
    source = "hpkit @ git+{repository}@{ref}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-c", file.name, source], check=True)
    importlib.invalidate_caches()"""


def stamp(notebook, name: str) -> None:
    """Put the badge and the set-up cell in: cells of these ids, the first and the third."""
    urls = read_toml(FOLDER.parent / "pyproject.toml", "project")["project"]["urls"]
    repository, ref = urls["Repository"], urls["Ref"].rpartition("/")[2]
    place = repository.removeprefix("https://github.com/")
    url = f"https://colab.research.google.com/github/{place}/blob/{ref}/notebooks/{name}.ipynb"
    cells = [cell for cell in notebook.cells if cell.id not in ("badge", "set-up")]
    badge = nbformat.v4.new_markdown_cell(_BADGE.format(url=url), id="badge")
    setup = nbformat.v4.new_code_cell(_SETUP.format(repository=repository, ref=ref), id="set-up")
    notebook.cells = [badge, cells[0], setup, *cells[1:]]


def code_hash(notebook) -> str:
    """Of the code cells' sources: tells whether the outputs belong to them."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def clean(notebook) -> None:
    """Leave pictures and words: no widget state, which only a kernel could bring to life, no cell timings."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def build(file: Path) -> float:
    """Execute one notebook and store it; returns the seconds it took."""
    notebook = nbformat.read(file, as_version=4)
    stamp(notebook, file.stem)
    began = time.perf_counter()
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    seconds = time.perf_counter() - began
    clean(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "hpkit": {"code": code_hash(notebook), "versions": {name: version(name) for name in VERSIONS}, "seconds": round(seconds)},
    }
    nbformat.validate(notebook)
    write_whole(file, nbformat.writes(notebook) + "\n")
    return seconds


def write_documents() -> None:
    """Put the list of notebooks and the ledger of their claims into the README, between its marks; make the sheets of the cards."""
    readme, files = FOLDER.parent / "README.md", sorted(FOLDER.glob("*.ipynb"))
    lines = []
    for file in files:
        badge, title = (cell.source for cell in nbformat.read(file, as_version=4).cells[:2])
        name, question = title.splitlines()[0].removeprefix("# ").split(": ", 1)
        lines.append(f"- [{name}](notebooks/{file.name}): {question[0].lower() + question[1:]} {badge}")
    text = readme.read_text(encoding="utf-8")
    for mark, content in (("notebooks", "\n".join(lines)), ("ledger", ledger_table(read_ledger(files)))):
        before, _, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- end of {mark} -->")
        text = f"{before}<!-- {mark} -->\n\n{content}\n\n{end}{after}"
    write_whole(readme, text)
    write_whole(FOLDER.parent / "CHEATSHEET.md", cheat_sheet())
    write_whole(FOLDER.parent / "GLOSSARY.md", glossary())


def main(names: list[str]) -> int:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HPKIT_CACHE": tempfile.mkdtemp()}  # nobody's predictions are stored
    files = [FOLDER / f"{name.removesuffix('.ipynb')}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb"))
    for file in files:
        if not file.is_file():
            print(f"{file.name}: no such notebook in notebooks/", file=sys.stderr)
            return 2
    for file in files:
        try:
            print(f"{file.stem}: {build(file):.0f} s", flush=True)
        except CellExecutionError as error:
            print(f"{file.stem}: stopped, and the stored notebook is as it was\n{error}", file=sys.stderr)
            return 1
    write_documents()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
