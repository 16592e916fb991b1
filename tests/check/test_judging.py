"""Sixty configurations that were labelled blind: how much of what is said is right, and how much of
what is wrong is said. tests/check/judging/README.md tells how they came about.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest
import tomllib

from hpkit.check import check_file
from hpkit.hyperparameters import CARDS

FOLDER = Path(__file__).parent / "judging"
#: Of all files, so that none is bent towards the rules.
DIGEST = "c21af1e53f013b8c59b53408c3ab96b01a07c87ee831f7956f91530aac7a11e7"
#: Names by which a label and a finding may speak of the same thing.
SAME = {
    "weights": {"dtype", "torch_dtype", "fp16", "bf16"},
    "added_tokens": {"add_special_tokens", "add_tokens", "resize_token_embeddings"},
    "pad_is_eos": {"pad_token", "eos_token", "DataCollatorForLanguageModeling", "mlm"},
    "streaming": {"streaming", "max_steps"},
    "quantized": {"quantization_config", "load_in_4bit", "load_in_8bit", "BitsAndBytesConfig"},
    "bits_argument": {"load_in_4bit", "load_in_8bit", "quantization_config"},
    "idle_adapter": {
        "LoraConfig",
        "peft_config",
        "get_peft_model",
        "lora_r",
        "lora_alpha",
        "use_peft",
    },
}


class Label(NamedTuple):
    """What an expert says of a place: any of `about` is meant; on `also` a remark is fair."""

    about: frozenset[str]
    also: frozenset[str]
    cell: int | None
    line: int
    severity: str
    says: str


def read_labels() -> dict[Path, list[Label]]:
    """The labels of each file, none of those that are right."""
    found = {}
    for table in sorted(FOLDER.glob("*/labels.toml")):
        for entry in tomllib.loads(table.read_text(encoding="utf-8"))["file"]:
            (file,) = table.parent.rglob(entry["name"].split("/")[-1].replace("[", "[[]"))
            labels = []
            for fault in entry.get("fault", ()):
                labels.append(
                    Label(
                        about=frozenset(fault["about"]),
                        also=frozenset(fault.get("also", ())) | frozenset(entry.get("also", ())),
                        cell=fault.get("cell"),
                        line=fault["line"],
                        severity=fault["severity"],
                        says=fault["says"],
                    )
                )
            found[file] = labels
    return found


class Counts(NamedTuple):
    """Findings that are right, and that are not; labels that are said, and that are not."""

    right: int
    wrong: list[str]
    said: int
    unsaid: list[str]


def names_of(finding: dict) -> set[str]:
    """The arguments a finding is about: its own, those that it would change, those it mentions."""
    changes = finding["changes"]
    names = {*changes["set"], *changes["leave_out"]}
    words = finding["message"].replace(",", " ").replace(":", " ").split()
    names |= {word for word in words if word in CARDS or "_" in word}
    for word in list(names):
        names |= SAME.get(word, set())
    for fact, words in SAME.items():
        if finding["argument"] == fact:
            names |= words
    return names | {finding["argument"]}


def judge() -> Counts:
    """Every file checked as a stranger's would be: nothing is known beside its text."""
    right = 0
    wrong = []
    said = 0
    unsaid = []
    for file, labels in read_labels().items():
        report = check_file(str(file), None, model=None, device=None, processes=1, lengths=None)
        met = set()
        for finding in report.findings:
            names = names_of(finding)
            fits = [label for label in labels if label.about & names]
            met |= set(fits)
            if fits:
                right += 1
            # What an upgrade would ask for is a hint that nobody needs and nobody objects to.
            is_on_an_upgrade = "after an upgrade" in finding["message"]
            is_fair = is_on_an_upgrade or any(label.also & names for label in labels)
            if not fits and not is_fair:
                wrong.append(
                    f"{file.name} {finding['cell'] or ''} {finding['line']}: "
                    f"{finding['severity']} {finding['rule']}: {finding['message']}"
                )
        said += len(met)
        for label in labels:
            if label not in met:
                unsaid.append(f"{file.name} {label.cell or ''} {label.line}: {label.says}")
    return Counts(right, wrong, said, unsaid)


def digest() -> str:
    """Of the names and contents of all files that were labelled."""
    whole = hashlib.sha256()
    for file in sorted(FOLDER.rglob("*")):
        if file.is_file() and file.suffix in (
            ".py",
            ".ipynb",
            ".yaml",
            ".yml",
            ".json",
            ".sh",
            ".toml",
        ):
            whole.update(file.relative_to(FOLDER).as_posix().encode() + file.read_bytes())
    return whole.hexdigest()


def test_nothing_of_the_corpus_was_bent():
    assert digest() == DIGEST


def test_half_of_the_files_are_right_as_they_stand():
    labels = read_labels()
    assert len(labels) == 60
    assert sum(not faults for faults in labels.values()) == 30


@pytest.mark.slow
def test_precision_and_recall():
    counts = judge()
    precision = counts.right / (counts.right + len(counts.wrong))
    recall = counts.said / (counts.said + len(counts.unsaid))
    print(f"precision {precision:.3f}, recall {recall:.3f}")
    print("wrong:", *counts.wrong, "unsaid:", *counts.unsaid, sep="\n  ")
    assert precision >= 0.95
    assert recall >= 0.8


if __name__ == "__main__":
    test_precision_and_recall()
