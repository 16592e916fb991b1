"""Makes `data/signatures.json`: which arguments the classes of transformers, TRL, PEFT, axolotl and
LLaMA-Factory take, since which version and until which.

    python tests/check/signatures.py FOLDER

fetches the last wheel of each minor version into FOLDER (600 MB, two minutes) and reads them as
syntax trees: nothing of them is installed or run. tests/preflight/test_libraries.py compares the
table with the versions that are installed.
"""

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.version import Version

TABLE = Path(__file__).parents[2] / "data" / "signatures.json"
#: The first and the last minor version that are read.
RANGE = {
    "transformers": ("4.30", "5.23"),
    "trl": ("0.7", "1.16"),
    "peft": ("0.6", "0.21"),
    "axolotl": ("0.19", "0.19"),
    "llamafactory": ("0.9", "0.9"),
}
#: The files of a wheel in which the classes stand.
FILES = {
    "transformers": r"transformers/(training_args|trainer)(_seq2seq)?\.py",
    # The server's script has a ScriptArguments of its own.
    "trl": r"trl/(trainer|scripts)/(?!vllm_serve)\w+\.py",
    "peft": r"peft/(config|tuners/lora|tuners/lora/config)\.py",
    "axolotl": r"axolotl/(utils/schemas|integrations/\w+)/\w+\.py",
    "llamafactory": r"llamafactory/hparams/\w+\.py",
}
CLASSES = {
    "transformers": r"(Seq2Seq)?(TrainingArguments|Trainer)",
    "trl": r"(?!_)\w*(Config|Trainer|ScriptArguments)",
    "peft": r"LoraConfig",
    "axolotl": r"AxolotlInputConfig|\w+Args",
    "llamafactory": r"\w+Arguments",
}
#: What a training imports from transformers, and what is gone from it.
IMPORTED = {
    "AdamW",
    "AutoModelWithLMHead",
    "AutoModelForVision2Seq",
    "TextDataset",
    "LineByLineTextDataset",
    "LineByLineWithRefDataset",
    "TextDatasetForNextSentencePrediction",
    "SquadDataset",
    "GlueDataset",
}


def minor_versions(package: str) -> list[str]:
    """The last release of each minor version in RANGE, the oldest first."""
    command = (sys.executable, "-m", "pip", "index", "versions", package)
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, last = (Version(end).release for end in RANGE[package])
    found = {}
    for text in re.search(r"Available versions: (.*)", listed)[1].split(", "):
        minor = Version(text).release[:2]
        if first <= minor <= last:
            found.setdefault(minor, text)  # pip lists the newest first
    return [found[minor] for minor in sorted(found)]


def wheel(package: str, version: str, folder: Path) -> Path:
    """The wheel in the folder, fetched where it is missing."""
    pattern = f"{package}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = (sys.executable, "-m", "pip", "download", "-q", "--no-deps")
        subprocess.run((*command, "-d", str(folder), f"{package}=={version}"), check=True)
    (found,) = folder.glob(pattern)
    return found


def read_wheel(package: str, file: Path) -> tuple[dict[str, set[str]], set[str]]:
    """({class: its arguments}, what `from package import` takes)."""
    classes = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if re.fullmatch(FILES[package], name):
                for node in ast.parse(archive.read(name)).body:
                    if isinstance(node, ast.ClassDef):
                        classes[node.name] = node
        face = ast.parse("")
        lazily = set()
        if package in ("transformers", "trl"):
            face = ast.parse(archive.read(f"{package}/__init__.py"))
        if package == "transformers":
            lazily = named_in_modules(archive)
    taken = {}
    for name in classes:
        if re.fullmatch(CLASSES[package], name):
            taken[name] = arguments(name, classes)
    imported = lazily
    for node in ast.walk(face):
        # The lazy face repeats its names for type checkers. `from pathlib import Path` is no name
        # of the package.
        if isinstance(node, ast.ImportFrom) and node.level:
            imported |= {alias.asname or alias.name for alias in node.names}
    return taken, imported


def arguments(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    """What a class takes: a trainer's parameters, or the fields of a dataclass and of its bases.

    A base from another package adds nothing: transformers' fields have a row of their own.
    """
    node = classes.get(name)
    if node is None:
        return set()
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            taken = {one.arg for one in (*part.args.args, *part.args.kwonlyargs)} - {"self"}
            return taken | renamed_by(part)
    found = set()
    for base in node.bases:
        found |= arguments(ast.unparse(base).rpartition(".")[2], classes)
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and not part.target.id.startswith("_"):
            text = ast.unparse(part)
            if "ClassVar" not in text and "init=False" not in text:
                found.add(part.target.id)
    return found


def named_in_modules(archive: zipfile.ZipFile) -> set[str]:
    """Which of IMPORTED a module of transformers lists in its __all__: since 4.50 the face finds
    them there.
    """
    found = set()
    for name in archive.namelist():
        if not name.endswith(".py"):
            continue
        text = archive.read(name)
        listed = text.rpartition(b"__all__")[2]
        found |= {one for one in IMPORTED - found if b'"' + one.encode() + b'"' in listed}
    return found


def renamed_by(function: ast.FunctionDef) -> set[str]:
    """Old names that a decorator of transformers, deprecate_kwarg, still takes."""
    found = set()
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and "deprecate_kwarg" in ast.unparse(decorator.func):
            found.add(decorator.args[0].value)
    return found


def table_of(package: str, folder: Path) -> dict:
    """versions; classes: {class: {argument: [since, until, null where it is still taken]}};
    gone: {what can no longer be imported: the last version from which it could}.
    """
    versions = minor_versions(package)
    classes = {}
    last_import = {}
    for version in versions:
        taken, imported = read_wheel(package, wheel(package, version, folder))
        for name, its_arguments in taken.items():
            for argument in its_arguments:
                span = classes.setdefault(name, {}).setdefault(argument, [version, version])
                span[1] = version
        last_import |= dict.fromkeys(imported, version)
        print(package, version, flush=True)
    newest = versions[-1]
    for its_arguments in classes.values():
        for span in its_arguments.values():
            if span[1] == newest:
                span[1] = None
    gone = {}
    for name, version in last_import.items():
        is_public = package == "trl" or name in IMPORTED
        if version != newest and is_public and not name.startswith("is_"):
            gone[name] = version
    if package == "transformers":
        # The face of transformers 5 names few of its imports: only it can say what it has.
        import transformers

        gone = {name: last for name, last in gone.items() if not hasattr(transformers, name)}
    return {"versions": versions, "classes": classes, "gone": gone}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    table = {package: table_of(package, folder) for package in RANGE}
    text = json.dumps(table, indent=1, sort_keys=True)
    # A span on one line: the table is to be read in a diff.
    text = re.sub(r"\[\s+(\"[\d.]+\"),\s+(\"[\d.]+\"|null)\s+\]", r"[\1, \2]", text)
    TABLE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
