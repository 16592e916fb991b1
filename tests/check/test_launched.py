"""Launch lines with the scripts that they start: their fields and defaults count, where known."""

import textwrap
from pathlib import Path

import pytest

from hpkit.check import check_file

from .examples import notebook, write

ALONE = dict(model=None, device=None, processes=1, lengths=None)
PLAIN = """\
from transformers import HfArgumentParser, Seq2SeqTrainingArguments
from .options import ModelArguments
HfArgumentParser((ModelArguments, Seq2SeqTrainingArguments)).parse_args_into_dataclasses()
"""
OWN = """\
from dataclasses import dataclass, field
import transformers

@dataclass
class TrainingArguments(transformers.TrainingArguments):
    group_by_length: bool = field(default=True)
    eval_strategy: str = field(default="steps")
    lora: bool = field(default=False)

def main():
    (args,) = transformers.HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
"""
#: Its config gets what it likes of an own dataclass's fields.
ELSEWHERE = """\
from dataclasses import dataclass
from transformers import HfArgumentParser
from trl import DPOConfig

@dataclass
class ScriptArguments:
    eval_strategy: str = "steps"
    eval_steps: int = 50

args = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()[0]
DPOConfig("o", eval_strategy=args.eval_strategy, eval_steps=args.eval_steps)
"""
ARGPARSE = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--warmup_ratio", type=float)
"""
LINE = "python {script} --per_device_train_batch_size 2 --max_steps 500 --eval_steps 100 {more}\n"
OLD = "--evaluation_strategy steps --group_by_length True --warmup_ratio 0.1"


@pytest.fixture
def rules(tmp_path):
    """`rules(files, name, more)`: (rule, argument) of what is found on a line beside files."""
    (tmp_path / ".git").mkdir()

    def one(files: dict[str, str], script: str, more: str = "", line: str = "run/a.sh") -> set:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(text))
        (tmp_path / line).parent.mkdir(parents=True, exist_ok=True)
        file = write(tmp_path, LINE.format(script=script, more=more), line)
        return {
            (finding["rule"], finding["argument"])
            for finding in check_file(str(file), None, **ALONE).findings
        }

    return one


@pytest.mark.parametrize(
    "place, script",
    [
        ("run/tune.py", "tune.py"),
        ("train/tune.py", "train/tune.py"),
        ("train/tune.py", "../train/tune.py"),
        ("src/train/tune.py", "-m train.tune"),
    ],
)
def test_a_script_is_found_from_the_file_or_from_the_root(place, script, rules):
    assert rules({place: PLAIN}, script, OLD) == {
        ("removed-argument", "evaluation_strategy"),
        ("removed-argument", "group_by_length"),
        ("removed-argument", "warmup_ratio"),
    }
    assert rules({place: PLAIN}, script) == {("evaluation-idle", "eval_steps")}


def test_the_scripts_own_fields_and_defaults_count(rules):
    assert rules({"tune.py": OWN}, "tune.py") == set()
    fired = rules({"tune.py": OWN}, "tune.py", OLD)
    assert ("removed-argument", "group_by_length") not in fired
    assert ("removed-argument", "evaluation_strategy") in fired
    # The field is there, and nobody reads it.
    assert ("unread-field", "group_by_length") in fired


def test_a_default_of_the_scripts_own_is_told_of_the_script_alone(rules):
    own = OWN.replace("    lora: bool", "    lr_scheduler_type: str = 'constant'\n    lora: bool")
    assert rules({"tune.py": own}, "tune.py", "--warmup_steps 50") == set()
    both = "--warmup_steps 50 --lr_scheduler_type constant"
    assert rules({"tune.py": own}, "tune.py", both) == {
        ("constant-with-warmup", "lr_scheduler_type")
    }


def test_the_parser_may_stand_in_a_module_that_the_script_imports(rules):
    files = {
        "kit/loop.py": OWN,
        "kit/start.py": "from kit.patches import patch\nfrom kit.loop import main\nmain()",
        "kit/patches.py": "def patch(): ...",
    }
    fired = rules(files, "kit/start.py", OLD)
    assert ("removed-argument", "evaluation_strategy") in fired
    assert ("removed-argument", "group_by_length") not in fired


@pytest.mark.parametrize(
    "files, script",
    [
        ({}, "tune.py"),
        ({}, "$SCRIPT"),
        ({"other/deep/tune.py": PLAIN}, "tune.py"),
        ({"tune.py": ELSEWHERE}, "tune.py"),
        ({"tune.py": ARGPARSE}, "tune.py"),
        ({"tune.py": "from transformers import ("}, "tune.py"),
        ({"tune.py": "import fire\ndef train(warmup_ratio=0.1): ...\nfire.Fire(train)"}, "tune.py"),
    ],
)
def test_of_a_script_that_is_not_known_values_alone_are_judged(files, script, rules):
    assert rules(files, script, OLD) == set()
    assert rules(files, script, "--fp16 True --bf16 True") == {("both-halves", "fp16")}
    rate = "--model_name_or_path org/Model-8B --learning_rate 3e-3"
    assert rules(files, script, rate) == set()


def test_lines_of_a_notebook_find_their_script_as_well(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "train").mkdir()
    write(tmp_path / "train", PLAIN, "tune.py")
    line = "!" + LINE.format(script="train/tune.py", more="--warmup_ratio 0.1")
    (tmp_path / "book").mkdir()
    file = notebook(tmp_path / "book", "x = 1", line)
    report = check_file(str(file), None, **ALONE)
    found = {(one["rule"], one["cell"], Path(one["file"]).name) for one in report.findings}
    assert found == {("removed-argument", 2, file.name), ("evaluation-idle", 2, file.name)}
