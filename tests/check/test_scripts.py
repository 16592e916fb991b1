"""The calls of scripts and notebooks: their arguments, their places, what is left unread."""

import random
import sys
from pathlib import Path

import pytest

import hpkit.check
from hpkit.check import Call, read_calls
from hpkit.errors import BadInput

from .examples import ARGPARSE, CELLS, CLASSES, CONSTANTS, PLAIN, UNSLOTH, notebook, write


def test_plain_keywords(read):
    (call,) = read(PLAIN)
    assert (call.cell, call.line, call.name, call.unread) == (None, 3, "TrainingArguments", ())
    assert call.arguments["evaluation_strategy"] == "epoch"  # gone from transformers, read as it is
    assert call.arguments["learning_rate"] == 2e-5 and call.arguments["weight_decay"] == -0.01
    assert call.arguments["eval_steps"] is None and call.arguments["push_to_hub"] is False
    assert (
        call.lines["num_train_epochs"] == call.lines["weight_decay"] == 6
        and call.lines["output_dir"] == 4
    )


def test_unsloth_and_conditional_precision(read):
    (inner,) = read(UNSLOTH)  # of a trainer that Unsloth patches no argument is gone
    assert inner.written.unsloth
    outer, _ = read(UNSLOTH.replace("from unsloth", "from elsewhere"))
    assert (outer.name, outer.line, outer.arguments) == ("SFTTrainer", 5, {"packing": False})
    assert set(outer.unread) == {"model", "tokenizer", "max_seq_length", "args"}
    assert (inner.name, inner.line, inner.lines["learning_rate"]) == ("TrainingArguments", 10, 12)
    assert inner.arguments["optim"] == "adamw_8bit" and inner.unread == ("fp16", "bf16")


def test_a_trainer_is_told_only_for_what_moved(read):
    assert read("Trainer(model=m, args=a, train_dataset=d)") == []
    (call,) = read("import trl\ntrl.SFTTrainer(m, args=a, packing=True)")
    assert call.arguments == {"packing": True} and set(call.unread) == {"args", "*args"}


def test_notes(tmp_path):
    source = "from transformers import HfArgumentParser as H, TrainingArguments\np = H(A)\n"
    source += "args = TrainingArguments(seed=1)\nargs.seed = 2\n"
    calls, notes = read_calls(write(tmp_path, source))
    assert (
        calls[0].arguments == {}
        and calls[0].unread == ("seed",)
        and notes
        == [
            "line 2: HfArgumentParser reads values from the command line or a file; give them with "
            "--with: what is written here alone is checked",
            "line 4: args.seed is set after the call; this value is not read",
        ]
    )


def test_calls_come_in_reading_order(read):
    source = "def f():\n    TrainingArguments(seed=1)\n"
    source += "x = [TrainingArguments(seed=2),\n     SFTConfig(seed=3)]\n"
    source += "lambda: TrainingArguments(seed=4)\n"
    assert [(c.line, c.arguments["seed"]) for c in read(source)] == [(2, 1), (3, 2), (4, 3), (5, 4)]


def test_reading_never_runs_the_file(tmp_path):
    mark = tmp_path / "mark"
    opened = f"open({str(mark)!r}, 'w')"
    source = f"{opened}.write('run')\nTrainingArguments(output_dir={opened})\n"
    assert read_calls(write(tmp_path, source))[0][0].unread == ("output_dir",)
    assert read_calls(notebook(tmp_path, source, f"!touch {mark}"))[0]
    assert not mark.exists()


def mutations(text: str, rng: random.Random, count: int):
    lines = text.split("\n")
    for _ in range(count):
        kind = rng.randrange(4)
        i = rng.randrange(len(text))
        j = rng.randrange(len(text))
        if kind == 0:
            yield text[:i]
        elif kind == 1:
            k = rng.randrange(len(lines))
            yield "\n".join(lines[:k] + lines[k + 1 :])
        elif kind == 2:
            changed = list(text)
            changed[i], changed[j] = changed[j], changed[i]
            yield "".join(changed)
        else:
            yield text[:i] + rng.choice("()[]{}'\"\\%!?:=\0\n\t*#é\ud800") + text[i:]


def test_damaged_files_raise_nothing_but_bad_input(tmp_path):
    rng = random.Random(3)
    read = 0
    whole = notebook(tmp_path, *CELLS).read_text()
    for source in (PLAIN, UNSLOTH, CONSTANTS, ARGPARSE, CLASSES, whole):
        for text in mutations(source, rng, 60):
            if source is whole:
                files = [write(tmp_path, text, "train.ipynb")]
            else:
                files = [write(tmp_path, text), notebook(tmp_path, text)]
            for file in files:
                try:
                    calls, notes = read_calls(file)
                except BadInput as error:
                    assert "\n" not in str(error)
                    continue
                read += 1
                assert all(isinstance(call, Call) and call.line >= 1 for call in calls)
                assert all("\n" not in note for note in notes)
    assert read > 300


def test_it_needs_only_the_standard_library():
    files = sorted(Path(hpkit.check.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        imported = set()
        for line in file.read_text(encoding="utf-8").split("\n"):
            if line.startswith(("import ", "from ")):
                imported.add(line.split()[1].partition(".")[0])
        if file.name == "__init__.py":
            imported.discard("lazy_loader")  # which hands on the names and needs nothing itself
        assert imported <= sys.stdlib_module_names | {"hpkit"}, file.name


@pytest.mark.parametrize(
    "source, drawn",
    [
        (
            "from transformers import AutoModelForTokenClassification as A\n"
            "m = A.from_pretrained('x')",
            "AutoModelForTokenClassification.from_pretrained (line 2)",
        ),
        (
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            "m = LlamaForCausalLM(LlamaConfig())",
            "LlamaForCausalLM (line 2)",
        ),
        (
            "import transformers\nm = transformers.AutoModelForCausalLM.from_config(c)",
            "AutoModelForCausalLM.from_config (line 2)",
        ),
        ("from peft import get_peft_model\nm = get_peft_model(m, c)", "get_peft_model (line 2)"),
        ("import torch, transformers as t\ntorch.manual_seed(1)\nm = t.BertModel(c)", None),
        ("import transformers as t\nm = t.BertModel(c)\nt.set_seed(1)", "BertModel (line 2)"),
        (
            "import transformers as t\ndef init():\n    return t.BertModel(c)\n"
            "Trainer(model_init=init)",
            None,
        ),
        (
            "from transformers import AutoModelForCausalLM as A\nm = A.from_pretrained('x')",
            None,
        ),  # all its weights are in the file
        ("from transformers import DataCollatorForLanguageModeling as D\nd = D(t)", None),
        (
            "from unsloth import FastLanguageModel as F\nm = F.get_peft_model(m, random_state=1)",
            None,
        ),
    ],
)
def test_random_weights_before_a_seed(source, drawn, read):
    (call,) = read(source + "\nTrainingArguments(seed=1)")
    assert call.unseeded == drawn
