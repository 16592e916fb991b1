"""Stamp, execute and store the notebooks: `make notebooks`, or
`python notebooks/build.py 02_warmup_and_schedules`.

Each gets the same badge and set-up cell, made from [project.urls] in pyproject.toml, runs from top
to bottom in a fresh kernel, and replaces the stored one only when every cell has run. An error in
any cell ends with status 1. Then the README gets the list of notebooks, and what is generated is
written beside them: the claims from their outputs, cheat sheet, glossary and questions from the
cards, the tested versions from the requirements.

`make stamp`, or `--stamp`, executes nothing and mends badges, set-up cells and README. After a fork
or a rename it follows git's `origin`, where that is on GitHub: it writes the address into
[project.urls] first.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from string import Template

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from hpkit.check.explain import rules_page
from hpkit.errors import BadInput
from hpkit.files import read_toml, write_whole
from hpkit.hyperparameters import recipe_table
from hpkit.lessons import cheat_sheet, glossary, ledger_table, questions, read_ledger

FOLDER = Path(__file__).parent
#: What the outputs depend on most; a notebook names the versions it was executed with.
VERSIONS = ("torch", "transformers", "bitsandbytes", "ipywidgets", "matplotlib")
#: The libraries whose tested versions GOING_FURTHER.md names.
TESTED = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "bitsandbytes",
    "numpy",
    "matplotlib",
    "ipywidgets",
    "datasets",
    "pyarrow",
)
#: What stands above the ledger of claims, and above the recipe's table in the cheat sheet.
_CLAIMS = """\
# Claims

What the notes say about hyperparameters, what others say, and what was measured. Each sentence that
a run can test is a claim with a measurement. `make notebooks` reads this table from the notebooks'
outputs.

"""
_RECIPE = """
## The recipe

The notes' values, ours, and why ours differ. Where the notes are silent, their recipe takes the
library's default. `hpkit explain --markdown` prints this table.

"""
_BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
# Folded, for a learner's first look is the notebook's question: Colab folds it by its title,
# JupyterLab by `source_hidden`, pages made of notebooks by the tag. What it prints is seen.
_FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["hide-input"]}
# The pins hold what is there. As constraints: as requirements, pip would download each of them anew
# where they are in conflict.
_SETUP = Template('''\
#@title Set-up
# Where hpkit is missing, as on Colab, this installs it; what is there stays as it is.
import importlib.util
import subprocess
import sys
import tempfile
from importlib.metadata import version

# A mere folder of this name, as after a clone, has no origin.
if getattr(importlib.util.find_spec("hpkit"), "origin", None) is None:
    repository, ref = "$repository", "$ref"
    names = ("torch", "transformers", "numpy", "ipywidgets", "matplotlib")
    pins = [f"{name}=={version(name)}\\n" for name in names if importlib.util.find_spec(name)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as keep:
        keep.writelines(pins)
    package = f"hpkit @ git+{repository}@{ref}"
    command = [sys.executable, "-m", "pip", "install", "-c", keep.name, package]
    pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if pip.returncode:
        raise RuntimeError(f"""hpkit was not installed; pip said:
{pip.stdout[-1200:]}
Is something out of reach? This machine needs the internet, and {repository}/tree/{ref} \
must open in a browser.
Are versions in conflict? Nothing was changed; choose another runtime version, \
or tell {repository}/issues.
Then run this cell again.""")
    importlib.invalidate_caches()

from hpkit.capability import probe

print(f"This machine: {probe(try_optimizer=False)}.")
print("Computing takes $duration on two CPU cores.")''')


def address() -> tuple[str, str]:
    """The repository's address and the ref, a branch or a tag, that the badges open: [project.urls]
    of pyproject.toml. Raises BadInput."""
    urls = read_toml(FOLDER.parent / "pyproject.toml", "project")["project"]["urls"]
    repository = urls["Repository"]
    ref = urls["Ref"].removeprefix(f"{repository}/tree/")
    known = re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository)
    # Where the two name different repositories, all of the address is left, and no ref has a colon.
    if not known or not re.fullmatch(r"[\w./-]+", ref):
        raise BadInput(
            "[project.urls] of pyproject.toml: expected Repository = https://github.com/OWNER/REPO "
            "and Ref = the same with /tree/ and a branch or tag; "
            f"got {repository} and {urls['Ref']}"
        )
    return repository, ref


def follow_origin() -> None:
    """Write the repository of git's `origin` into [project.urls] of pyproject.toml, its ref kept.
    Without git, without a remote, or where that is not on GitHub, nothing changes. Raises BadInput.
    """
    origin = github_address(address_of_origin())
    repository, ref = address()
    if origin is None or origin == repository:
        return
    file = FOLDER.parent / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for url in (f'"{repository}"', f'"{repository}/tree/{ref}"'):
        text = text.replace(url, url.replace(repository, origin))
    write_whole(file, text)


def address_of_origin() -> str:
    """What git says; "" where there is no git, no repository or no such remote."""
    # Named, not searched for: a copy inside somebody's repository would find that one.
    command = ["git", f"--git-dir={FOLDER.parent / '.git'}", "remote", "get-url", "origin"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def github_address(remote: str) -> str | None:
    """`https://github.com/OWNER/REPO` of a remote's address in any of git's forms, without a user
    or a token that it may hold. None for what is not on GitHub."""
    known = re.fullmatch(
        r"(?:https://(?:[^/@]+@)?|(?:ssh://)?git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?",
        remote,
    )
    return known and f"https://github.com/{known[1]}"


def stamp(notebook, name: str) -> None:
    """Put the badge and the set-up cell in, the first cell and the third, or mend those that are
    there; outputs stay."""
    repository, ref = address()
    kept = {cell.id: cell for cell in notebook.cells if cell.id in ("badge", "set-up")}
    cells = [cell for cell in notebook.cells if cell.id not in kept]
    badge = kept.get("badge") or nbformat.v4.new_markdown_cell(id="badge")
    url = repository.replace("https://github.com/", "https://colab.research.google.com/github/")
    badge.source = _BADGE.format(url=f"{url}/blob/{ref}/notebooks/{name}.ipynb")
    setup = kept.get("set-up") or nbformat.v4.new_code_cell(id="set-up")
    duration = re.search(r"^Computing takes (.+?) on two CPU cores", cells[0].source, re.M)
    if not duration:
        raise BadInput(
            f"{name}: expected `Computing takes … on two CPU cores` in the cell of the title, "
            "which says how long it takes"
        )
    setup.source = _SETUP.substitute(repository=repository, ref=ref, duration=duration[1])
    setup.metadata.update(_FOLDED)
    notebook.cells = [badge, cells[0], setup, *cells[1:]]


def code_hash(notebook) -> str:
    """Of the code cells' sources: tells whether the outputs belong to them. Not of the set-up cell,
    which is the stamp's."""
    sources = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.id != "set-up":
            sources.append(cell.source)
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def clean(notebook) -> None:
    """Leave pictures and words: no widget state, which only a kernel could bring to life, no cell
    timings."""
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
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    seconds = time.perf_counter() - began
    clean(notebook)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
        "hpkit": {
            "code": code_hash(notebook),
            "versions": {name: version(name) for name in VERSIONS},
            "seconds": round(seconds),
        },
    }
    nbformat.validate(notebook)
    write_whole(file, nbformat.writes(notebook) + "\n")
    return seconds


def pinned(requirements: Path) -> dict[str, str]:
    """Version by library."""
    text = requirements.read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.M))


def versions_table() -> str:
    """The lowest and the highest versions that the tests run on, as a Markdown table: of
    tests/colab, and of requirements.txt."""
    root = Path(__file__).parents[1]
    lowest = pinned(root / "tests" / "colab" / "requirements.txt")
    highest = pinned(root / "requirements.txt")
    rows = [f"| {name} | {lowest.get(name, 'the same')} | {highest[name]} |" for name in TESTED]
    return "\n".join(["| library | lowest tested | highest tested |", "|---|---|---|", *rows])


def list_of_notebooks(files: list[Path]) -> str:
    """For the README: of each notebook its name, its question and a link to Colab, whose address
    stands below the list, since it would fill a line of its own."""
    entries = []
    addresses = []
    for file in files:
        badge, title, *_ = nbformat.read(file, as_version=4).cells
        name, question = title.source.splitlines()[0].removeprefix("# ").split(": ", 1)
        question = question[0].lower() + question[1:]
        entries.append(f"- [{name}](notebooks/{file.name}): {question} [Colab][{file.stem[:2]}]")
        url = badge.source.rpartition("(")[2].removesuffix(")")
        addresses.append(f"[{file.stem[:2]}]: {url}")
    return "\n".join([*entries, "", *addresses])


def hook_and_action() -> str:
    """How another repository checks its configurations: before a commit, and on GitHub."""
    repository, ref = address()
    owner_and_name = repository.removeprefix("https://github.com/")
    return f"""\
Before each commit, with [pre-commit](https://pre-commit.com) and hpkit installed where it runs:

```yaml
repos:
  - repo: {repository}
    rev: {ref}
    hooks:
      - id: hpkit-check
```

On GitHub, beside the changed lines of a pull request:

```yaml
steps:
  - uses: actions/checkout@v4
  - uses: actions/setup-python@v5
  - uses: {owner_and_name}@{ref}
    with:
      paths: train.py recipes/
```"""


def between_marks(file: Path, mark: str, content: str) -> None:
    """Put this between the file's `<!-- mark -->` and `<!-- end of mark -->`."""
    text = file.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    write_whole(file, f"{before}<!-- {mark} -->\n\n{content}\n\n{end}{after}")


def write_documents() -> None:
    """Put the list of notebooks into the README and the versions into GOING_FURTHER.md, between
    their marks; make the claims and the sheets of the cards."""
    files = sorted(FOLDER.glob("*.ipynb"))
    between_marks(FOLDER.parent / "README.md", "notebooks", list_of_notebooks(files))
    between_marks(FOLDER / "GOING_FURTHER.md", "versions", versions_table())
    between_marks(FOLDER / "GOING_FURTHER.md", "hook", hook_and_action())
    write_whole(FOLDER / "CLAIMS.md", f"{_CLAIMS}{ledger_table(read_ledger(files))}\n")
    write_whole(FOLDER / "CHEATSHEET.md", f"{cheat_sheet()}{_RECIPE}{recipe_table()}\n")
    write_whole(FOLDER / "GLOSSARY.md", glossary())
    write_whole(FOLDER / "RULES.md", rules_page())
    write_whole(FOLDER.parent / "data" / "questions.jsonl", questions())


def restamp(file: Path) -> None:
    """Mend the badge and the set-up cell of a stored notebook."""
    notebook = nbformat.read(file, as_version=4)
    stamp(notebook, file.stem)
    write_whole(file, nbformat.writes(notebook) + "\n")


def main(arguments: list[str]) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # An empty one: a notebook must not be stored with the predictions of whoever runs this.
    os.environ["HPKIT_CACHE"] = tempfile.mkdtemp()
    names = [argument for argument in arguments if argument != "--stamp"]
    files = [FOLDER / f"{name.removesuffix('.ipynb')}.ipynb" for name in names]
    files = files or sorted(FOLDER.glob("*.ipynb"))
    for file in files:
        if not file.is_file():
            print(f"{file.name}: no such notebook in notebooks/", file=sys.stderr)
            return 2
    try:
        if "--stamp" in arguments:
            follow_origin()
            for file in files:
                restamp(file)
        else:
            for file in files:
                print(f"{file.stem}: {build(file):.0f} s", flush=True)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except (CellExecutionError, CellTimeoutError) as error:
        stopped = f"{file.stem}: stopped, and the stored notebook is as it was"
        print(f"{stopped}\n{error}", file=sys.stderr)
        return 1
    write_documents()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
