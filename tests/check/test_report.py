"""`hpkit check` on scripts and notebooks as people write them.

Findings stand at their lines, and nothing ends in a traceback.
"""

import json
from pathlib import Path

import pytest

from hpkit.__main__ import main

OLD_SCRIPT = """\
import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased", num_labels=3)
common = {"learning_rate": 1e-4, "warmup_steps": 2000}
args = TrainingArguments(
    output_dir="out",
    evaluation_strategy="steps",
    gradient_accumulation_steps=32,
    bf16=torch.cuda.is_bf16_supported(),
    logging_steps=2000,
    seed=3407,
    **common,
)
trainer = Trainer(model=model, args=args, train_dataset=data, tokenizer=tokenizer)
trainer.train()
"""
CELLS = [
    "%pip install -q trl\n!nvidia-smi",
    "import argparse\nfrom trl import SFTConfig, SFTTrainer\nLR = 2e-4",
    "config = SFTConfig(\n    learning_rate=LR,\n    max_seq_length=2048,\n"
    "    packing=True,\n    num_train_epochs=1,\n    max_steps=60,\n    warmup_steps=100,\n"
    "    per_device_train_batch_size=2,\n    gradient_accumulation_steps=4,\n"
    "    lr_scheduler_type='linear',\n)",
]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def notebook(folder: Path, cells) -> Path:
    made = [{"cell_type": "markdown", "source": "# Fine-tune"}]
    made += [{"cell_type": "code", "source": cell} for cell in cells]
    return write(folder, "tune.ipynb", json.dumps({"nbformat": 4, "metadata": {}, "cells": made}))


def report(capsys, *arguments) -> tuple[int, dict]:
    status = main(["check", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_an_old_script(capsys, tmp_path):
    file = write(tmp_path, "train.py", OLD_SCRIPT)
    status, found = report(capsys, file, "--examples", 5000, "--device", "t4")
    (call,) = found["calls"]
    place = (call["file"], call["cell"], call["line"])
    assert place == (str(file), None, 6) and call["name"] == "TrainingArguments"
    told = {
        "output_dir": "out",
        "evaluation_strategy": "steps",
        "gradient_accumulation_steps": 32,
        "logging_steps": 2000,
        "seed": 3407,
    }
    assert call["arguments"] == told | {"learning_rate": 1e-4, "warmup_steps": 2000}
    assert call["unread"] == ["bf16"]
    at = {
        finding["rule"]: (finding["severity"], finding["cell"], finding["line"])
        for finding in found["findings"]
    }
    assert at["removed-argument"] == ("error", None, 8)
    assert at["warmup-outlasts-run"] == ("error", None, 5)  # where the dict gives it
    assert at["no-training-loss"] == ("warning", None, 11)
    assert at["moved-argument"] == ("error", None, 15)
    assert at["seed-after-model"] == ("warning", None, 12)
    assert "bf16-emulated" not in at and "best-model-mismatch" not in at
    assert status == 1


def test_the_old_script_mended(capsys, tmp_path):
    mended = (
        OLD_SCRIPT.replace("evaluation_strategy", "eval_strategy")
        .replace("2000", "10")
        .replace("32", "1")
        .replace("tokenizer=", "processing_class=")
    )
    seeded = "import transformers\ntransformers.set_seed(3407)\n" + mended
    status, found = report(capsys, write(tmp_path, "new.py", seeded), "--examples", 5000)
    rules = {finding["rule"] for finding in found["findings"]}
    assert status == 0
    # Hints that any short run without settings of its own may get.
    assert rules <= {"save-beyond-run", "weight-decay-negligible", "disk-filled"}


def test_a_notebook(capsys, tmp_path):
    file = notebook(tmp_path, CELLS)
    status, found = report(capsys, file, "--device", "a100")
    (call,) = found["calls"]
    assert (call["cell"], call["line"], call["name"]) == (4, 1, "SFTConfig")
    assert call["arguments"]["learning_rate"] == 2e-4 and call["unread"] == []
    at = {finding["rule"]: (finding["cell"], finding["line"]) for finding in found["findings"]}
    fixes = [finding["fix"] for finding in found["findings"]]
    assert "write max_length=2048 in place of max_seq_length" in fixes
    assert at["removed-argument"] == (4, 3) and at["warmup-outlasts-run"] == (4, 7)
    assert "no-half-precision" not in at  # bf16 is TRL's default
    assert status == 1
    assert main(["check", str(file)]) == 1
    text = capsys.readouterr().out
    assert f"{file}, cell 4, line 1: SFTConfig, 9 arguments read" in text
    assert f"error   removed-argument  {file}, cell 4, line 3" in text


def test_several_calls_and_argparse(capsys, tmp_path):
    source = (
        "import argparse\nfrom transformers import Seq2SeqTrainingArguments, TrainingArguments\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lr', type=float, default=1e-7)\n"
        "options = parser.parse_args()\n"
        "a = TrainingArguments('a', learning_rate=options.lr, lr_scheduler_type='polynomial')\n"
        "b = Seq2SeqTrainingArguments('b', bf16=True, fp16=True)\n"
    )
    status, found = report(capsys, write(tmp_path, "two.py", source))
    assert [(call["name"], call["line"]) for call in found["calls"]] == [
        ("TrainingArguments", 6),
        ("Seq2SeqTrainingArguments", 7),
    ]
    assert {(finding["rule"], finding["line"]) for finding in found["findings"]} == {
        ("polynomial-below-end", 6),
        ("both-halves", 7),
    }
    assert status == 1


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("bad.py", "x = 1\nTrainingArguments(\n", "bad.py, line "),
        ("bad.ipynb", "{", "expected a notebook"),
        ("bad.txt", "x = 1", "expected a script (.py), a notebook"),
    ],
)
def test_what_cannot_be_read_is_one_line(name, text, message, capsys, tmp_path):
    assert main(["check", str(write(tmp_path, name, text))]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and len(captured.err.splitlines()) == 1


def test_nothing_found_and_nothing_to_find(capsys, tmp_path):
    status, found = report(capsys, write(tmp_path, "empty.py", "print('hello')\n"))
    assert status == 2 and found == {"calls": [], "findings": []}
    assert main(["check", str(tmp_path / "empty.py")]) == 2
    said = capsys.readouterr().out
    assert "no call of TrainingArguments or its like was found" in said
    assert said.endswith("nothing was checked\n")


def test_a_broken_cell_is_named_and_passed_over(capsys, tmp_path):
    file = notebook(tmp_path, ["x = = 1", *CELLS])
    assert main(["check", str(file), "--json"]) == 1
    captured = capsys.readouterr()
    assert "cell 2, line 1: syntax error, passed over" in captured.err
    assert [call["cell"] for call in json.loads(captured.out)["calls"]] == [5]


def test_values_that_json_does_not_know(capsys, tmp_path):
    source = "from transformers import TrainingArguments\n"
    source += "TrainingArguments('a', max_grad_norm=1e400, seed={1: 2})\n"
    status, found = report(capsys, write(tmp_path, "odd.py", source))
    assert found["calls"][0]["arguments"]["max_grad_norm"] == "Infinity" and status == 1
