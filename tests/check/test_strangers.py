"""Files as strangers write them: what was judged wrongly once, each fault by its kind."""

import json
import textwrap

import pytest

from hpkit.check import check_file
from hpkit.check.files import read_file
from hpkit.errors import BadInput

from .examples import notebook, write

ALONE = dict(model=None, device=None, processes=1, lengths=None)


@pytest.fixture
def check(tmp_path):
    """`check(source)`: (rule, severity) of each finding on a script, YAML or shell text."""

    def one(source: str, name: str = "tune.py", examples: int | None = None) -> list[tuple]:
        file = write(tmp_path, textwrap.dedent(source), name)
        report = check_file(str(file), examples, **ALONE)
        return [(finding["rule"], finding["severity"]) for finding in report.findings]

    return one


@pytest.fixture
def found(tmp_path):
    """`found(source)`: the findings by their rule."""

    def one(source: str, name: str = "tune.py", examples: int | None = None) -> dict:
        file = write(tmp_path, textwrap.dedent(source), name)
        report = check_file(str(file), examples, **ALONE)
        return {finding["rule"]: finding for finding in report.findings}

    return one


# Origin decides.


@pytest.mark.parametrize(
    "source",
    [
        "from setfit import TrainingArguments\n"
        "TrainingArguments(batch_size=16, num_epochs=2, warmup_proportion=0.1)",
        "from mlx_lm.tuner import TrainingArguments as T\nT(batch_size=4, iters=600)",
        "import sentence_transformers as st\n"
        "st.SentenceTransformerTrainingArguments('o', batch_sampler='no_duplicates', tokens=3)",
        "from optimum.onnxruntime import ORTTrainingArguments\n"
        "ORTTrainingArguments('o', optim='adamw_ort_fused')",
        "from .training_args import TrainingArguments\n"
        "TrainingArguments(num_iterations=20, warmup_ratio=0.1)",
        "from ..options import TrainingArguments\nTrainingArguments(evaluation_strategy='no')",
        "TrainingArguments(group_by_length=True)",  # nobody says where it comes from
        "from unknown import *\nTrainingArguments(group_by_length=True)",
    ],
)
def test_a_class_of_another_package_is_not_judged_by_transformers(source, check):
    assert check(source) == []


def test_what_stands_in_a_call_of_unknown_origin_is_still_looked_at(check):
    source = (
        "from .arguments import TrainingArguments\nTrainingArguments('o', bf16=True, fp16=True)"
    )
    assert check(source) == [("both-halves", "error")]
    # Its defaults are its own, and so nothing is counted with them.
    source = "from .arguments import TrainingArguments\nTrainingArguments('o', max_steps=100)"
    assert check(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "from transformers import TrainingArguments as T\nT('o', warmup_ratio=0.1)",
        "import transformers as t\nt.TrainingArguments('o', warmup_ratio=0.1)",
        "from transformers.training_args import TrainingArguments\n"
        "TrainingArguments('o', warmup_ratio=0.1)",
        "from transformers import *\nTrainingArguments('o', warmup_ratio=0.1)",
        "try:\n    from trl import SFTConfig\nexcept ImportError:\n    SFTConfig = None\n"
        "SFTConfig('o', warmup_ratio=0.1)",
    ],
)
def test_a_name_is_followed_to_its_package(source, check):
    assert check(source) == [("removed-argument", "error")]


@pytest.mark.parametrize(
    "line",
    [
        "from unsloth import FastLanguageModel",
        "import unsloth",
        "from unsloth.chat_templates import get_chat_template",
    ],
)
def test_trainers_that_unsloth_patches_take_what_they_took(line, check):
    source = f"""\
    {line}
    from trl import SFTConfig, SFTTrainer, DPOTrainer
    SFTTrainer(model=m, tokenizer=t, dataset_text_field="text", packing=True, max_seq_length=8,
        args=SFTConfig("o", max_steps=200, max_seq_length=8, warmup_ratio=0.1))
    DPOTrainer(model=m, tokenizer=t, beta=0.1)
    """
    assert check(source) == []


def test_what_unsloth_drops_is_said(check):
    source = "import unsloth\nfrom trl import SFTConfig\nSFTConfig('o', evaluation_strategy='no')"
    assert check(source) == [("dropped-by-unsloth", "hint")]
    pinned = "# pip install trl==0.22.2 transformers==4.40.2\n" + source
    assert check(pinned) == []


# Pins decide.

GRPO = "from trl import GRPOConfig\nGRPOConfig('o', warmup_ratio=0.1, max_prompt_length=64)"


@pytest.mark.parametrize(
    "line, severity",
    [
        ('!pip install -q "transformers==4.56.2" "trl==0.22.2"', "hint"),
        ("%pip install -U transformers==4.56.2 trl==0.22.2", "hint"),
        ("!uv pip install --no-deps trl==0.22.2\n!uv pip install 'transformers<5'", "hint"),
        ("!pip install transformers trl", "error"),
        ("!pip install git+https://github.com/huggingface/transformers.git trl", "error"),
        ("!pip install transformers==4.40 trl==0.20\n!pip install -U transformers trl", "error"),
        ("%%writefile requirements.txt\ntransformers==4.56.2\ntrl==0.22.2", "hint"),
        ("%%bash\npip install 'transformers==4.56.2' trl~=0.22.0", "hint"),
    ],
)
def test_pins_of_a_notebook(line, severity, tmp_path):
    report = check_file(str(notebook(tmp_path, line, GRPO)), None, **ALONE)
    said = {(finding["rule"], finding["severity"]) for finding in report.findings}
    assert said == {("removed-argument", severity)}
    assert len(report.findings) == 2
    if severity == "hint":  # each of its library
        words = [finding["message"] for finding in report.findings]
        assert words[0].startswith("warmup_ratio works with transformers ")
        assert words[1].startswith("max_prompt_length works with trl ")
        assert all("after an upgrade to " in message for message in words)


@pytest.mark.parametrize(
    "head, rules",
    [
        (
            '# /// script\n# dependencies = ["transformers==4.56.2", "trl==0.22.2"]\n# ///\n',
            {"hint"},
        ),
        ('# /// script\n# dependencies = ["transformers", "trl"]\n# ///\n', {"error"}),
        ('"""Run: pip install transformers==4.56.2 trl==0.22.2"""\n', {"hint"}),
        ("get_ipython().system('pip install trl==0.22.2 transformers==4.56.2')\n", {"hint"}),
    ],
)
def test_pins_of_a_script(head, rules, check):
    assert {severity for _, severity in check(head + GRPO)} == rules


def test_a_name_that_the_pinned_version_does_not_have_yet(found):
    source = "# pip install transformers==4.38.2\nfrom transformers import TrainingArguments\n"
    finding = found(source + "TrainingArguments('o', eval_strategy='no')")["argument-too-new"]
    assert "transformers 4.38.2, which this file installs, has no argument" in finding["message"]


# Old names count as their successors.


@pytest.mark.parametrize(
    "arguments, rules",
    [
        (
            "evaluation_strategy='epoch', save_strategy='epoch', load_best_model_at_end=True",
            {"removed-argument"},
        ),
        ("evaluation_strategy='steps', eval_steps=10, logging_steps=5", {"removed-argument"}),
        ("warmup_ratio=0.1, max_steps=500", {"removed-argument"}),
        ("warmup_ratio=0.6, max_steps=501", {"removed-argument", "warmup-over-third"}),
        (
            "evaluation_strategy='epoch', save_strategy='steps', load_best_model_at_end=True",
            {"removed-argument", "best-model-mismatch"},
        ),
    ],
)
def test_an_old_name_is_one_finding(arguments, rules, found):
    source = f"from transformers import TrainingArguments\nTrainingArguments('o', {arguments})"
    assert set(found(source)) == rules


# Values that are fine, and fixes that can be pasted.


def test_values_that_are_fine(check):
    head = "from transformers import TrainingArguments\n"
    for arguments in (
        "save_steps=0, logging_steps=10",
        "save_strategy='best', eval_strategy='epoch', metric_for_best_model='loss'",
        "max_steps=0",
        "lr_scheduler_kwargs={'num_cycles': 2}",
    ):
        assert check(f"{head}TrainingArguments('o', {arguments})") == [], arguments


def test_a_fix_for_false_is_to_leave_it_out(found, tmp_path):
    source = """\
    from transformers import TrainingArguments
    TrainingArguments("o", group_by_length=False, adafactor=False, include_tokens_per_second=False)
    """
    file = write(tmp_path, textwrap.dedent(source))
    fixes = [finding["fix"] for finding in check_file(str(file), None, **ALONE).findings]
    assert fixes == [
        "leave out group_by_length",
        "leave out adafactor",
        "leave out include_tokens_per_second",
    ]


def test_a_fix_is_python(tmp_path):
    source = "from trl import SFTTrainer\n"
    source += 'SFTTrainer("m", packing=False, max_seq_length=None, dataset_text_field="story")'
    report = check_file(str(write(tmp_path, source)), None, **ALONE)
    fixes = [finding["fix"].partition(";")[0] for finding in report.findings]
    written = [fix.rpartition("SFTConfig ")[2] for fix in fixes]
    assert written == ["packing=False", "max_length=None", 'dataset_text_field="story"']
    for text in written:
        compile(f"f({text})", "fix", "exec")


def test_a_text_is_shown_with_its_quotation_marks(found):
    source = (
        "from transformers import TrainingArguments\nTrainingArguments('o', learning_rate='2e-5')"
    )
    finding = found(source)["invalid-value"]
    assert finding["message"] == 'learning_rate is "2e-5", a text'
    assert finding["changes"]["set"] == {"learning_rate": 2e-5}


# Silent where an expert would speak.

HEAD = """\
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Trainer
from transformers import DataCollatorForLanguageModeling, TrainingArguments
"""
LOAD = "AutoModelForCausalLM.from_pretrained"
TRAIN = "Trainer(model=model, args=TrainingArguments('o', max_steps=500), train_dataset=rows)"


@pytest.mark.parametrize(
    "body, rule",
    [
        (
            f"model = {LOAD}('o/m', dtype=torch.float16)\n"
            "Trainer(model=model, args=TrainingArguments('o', fp16=True))",
            "fp16-weights-unscaled",
        ),
        (
            f"model = {LOAD}('o/m')\nmodel = {LOAD}('o/m', torch_dtype='float16')\n"
            "TrainingArguments('o', fp16=True, max_steps=500)",
            "fp16-weights-unscaled",
        ),
        (
            f"model = {LOAD}('o/m', dtype=torch.bfloat16)\n{TRAIN}",
            "bf16-weights-without-masters",
        ),
        (
            "four = BitsAndBytesConfig(load_in_4bit=True)\n"
            f"model = {LOAD}('o/m', quantization_config=four)\n{TRAIN}",
            "quantized-without-adapter",
        ),
        (f"model = {LOAD}('o/m', load_in_8bit=True)\n{TRAIN}", "bits-argument-gone"),
        (f"lora = LoraConfig(r=8)\nmodel = {LOAD}('o/m')\n{TRAIN}", "adapter-not-applied"),
        (
            "tok = AutoTokenizer.from_pretrained('o/m')\ntok.pad_token = tok.eos_token\n"
            "rows = [text + tok.eos_token for text in texts]\n"
            f"c = DataCollatorForLanguageModeling(tok, mlm=False)\n{TRAIN}",
            "pad-is-end-mark",
        ),
        (
            "tok = AutoTokenizer.from_pretrained('o/m')\nNEW = ['<a>', '<b>']\n"
            f"tok.add_tokens(NEW)\nmodel = {LOAD}('o/m')\n{TRAIN}",
            "tokens-without-embedding",
        ),
        (
            "rows = load_dataset('o/d', split='train', streaming=True).map(f)\n"
            "Trainer(model=model, args=TrainingArguments('o'), train_dataset=rows)",
            "streaming-without-max-steps",
        ),
        (
            f"model = {LOAD}('o/m')\nargs = TrainingArguments('o', eval_strategy='epoch')\n"
            "Trainer(model, args=args, eval_dataset=b, compute_metrics=count)",
            "logits-kept",
        ),
        (
            "def count(p):\n    return {'accuracy': 1}\n"
            "args = TrainingArguments('o', eval_strategy='epoch', metric_for_best_model='f1')\n"
            "Trainer(model=model, args=args, eval_dataset=b, compute_metrics=count)",
            "best-metric-not-computed",
        ),
        (
            f"model = {LOAD}('o/Model-8B')\nargs = TrainingArguments('o', learning_rate=3e-4)\n"
            "Trainer(model=model, args=args)",
            "rate-far-off",
        ),
        (
            f"model = get_peft_model({LOAD}('o/m'), LoraConfig(r=4, lora_alpha=256))\n{TRAIN}",
            "adapter-scale",
        ),
        (
            "args = TrainingArguments('o')\nargs.evaluation_strategy = 'epoch'\n"
            "Trainer(model=model, args=args)",
            "unread-field",
        ),
        (
            "a = torch.cuda.is_bf16_supported\n"
            "TrainingArguments('o', fp16=torch.cuda.is_bf16_supported(),\n"
            "    bf16=not torch.cuda.is_bf16_supported())",
            "halves-swapped",
        ),
    ],
)
def test_the_code_around_a_call_is_heard(body, rule, found):
    assert rule in found(HEAD + body)


@pytest.mark.parametrize(
    "body",
    [
        # An adapter has weights of its own.
        f"model = get_peft_model({LOAD}('o/m', dtype=torch.float16), LoraConfig())\n"
        "Trainer(model=model, args=TrainingArguments('o', fp16=True))",
        # Loaded twice, the second time in another format and under another name.
        f"base = {LOAD}('o/m', dtype=torch.float16)\nmodel = {LOAD}('o/m')\n"
        "TrainingArguments('o', fp16=True)",
        f"model = {LOAD}('o/m', dtype=torch.float16).float()\nTrainingArguments('o', fp16=True)",
        # DeepSpeed keeps copies.
        f"model = {LOAD}('o/m', dtype=torch.bfloat16)\n"
        "Trainer(model=model, args=TrainingArguments('o', deepspeed='zero3.json'))",
        # The embedding grows with the tokens.
        "tok = AutoTokenizer.from_pretrained('o/m')\ntok.add_tokens(['<a>'])\n"
        f"model = {LOAD}('o/m')\nmodel.resize_token_embeddings(len(tok))\n{TRAIN}",
        # Most models have a row to spare for a padding token, and texts without an end mark lose
        # none.
        f"tok.add_special_tokens({{'pad_token': '[PAD]'}})\nmodel = {LOAD}('o/m')\n{TRAIN}",
        "tok = AutoTokenizer.from_pretrained('o/m')\ntok.pad_token = tok.eos_token\n"
        f"c = DataCollatorForLanguageModeling(tok, mlm=False)\n{TRAIN}",
        # A token that the tokenizer has is not new.
        f"tok.add_special_tokens({{'pad_token': '<unk>'}})\nmodel = {LOAD}('o/m')\n{TRAIN}",
        # The configuration of an adapter goes somewhere.
        f"lora = LoraConfig(r=8)\nmodel = apply({LOAD}('o/m'), lora)\n"
        "Trainer(model=model, args=TrainingArguments('o', learning_rate=1e-4))",
        # A model that is not trained may be in 4 bits.
        f"judge = {LOAD}('o/j', quantization_config=BitsAndBytesConfig(load_in_4bit=True))\n"
        f"model = {LOAD}('o/m')\n{TRAIN}",
        # A stream with a number of updates, and a list made of one.
        f"rows = load_dataset('o/d', split='train', streaming=True)\n{TRAIN}",
        "rows = list(load_dataset('o/d', split='train', streaming=True).take(5))\n"
        "Trainer(model=model, args=TrainingArguments('o'), train_dataset=rows)",
        # What compute_metrics returns is not told.
        "args = TrainingArguments('o', eval_strategy='epoch', metric_for_best_model='f1')\n"
        "Trainer(model=model, args=args, compute_metrics=metric.compute)",
        "fp16 = not torch.cuda.is_bf16_supported()\nTrainingArguments('o', fp16=fp16)",
    ],
)
def test_the_code_around_a_call_is_not_misheard(body, check):
    assert check(HEAD + body) == []


@pytest.mark.parametrize(
    "rows, examples",
    [
        ("load_dataset('o/d', split='train').select(range(150))", 150),
        ("load_dataset('o/d', split='train[:200]')", 200),
        ("load_dataset('o/d', split='train[100:200]').shuffle(seed=1).map(tokenize)", 100),
        ("load_dataset('o/d')['train'].shuffle().select(range(10, 60)).remove_columns('a')", 50),
        ("load_dataset('o/d', split='train[:200]').train_test_split(test_size=0.1)['train']", 180),
        ("load_dataset('o/d', split='train[:200]').select(range(500))", 200),
        ("load_dataset('o/d', split='train').select(range(150)).filter(good)", None),
        ("load_dataset('o/d', split='train').select(range(150)).map(group_texts, batched=1)", None),
        ("load_dataset('o/d', split='train').select(chosen)", None),
        ("load_dataset('o/d', split='train[:10%]')", None),
        ("my_rows(150)", None),
    ],
)
def test_a_size_that_stands_in_the_text_is_used(rows, examples, tmp_path):
    source = f"{HEAD}args = TrainingArguments('o')\nrows = {rows}\n"
    source += "Trainer(model=model, args=args, train_dataset=rows)"
    file = write(tmp_path, source)
    (call,) = read_file(str(file)).calls
    assert call.written.around.examples == examples
    report = check_file(str(file), None, **ALONE)
    assert any(f"{examples} examples, as " in line for line in report.lines) == bool(examples)


def test_a_size_in_the_text_is_counted_with(found):
    source = f"{HEAD}rows = load_dataset('o/d', split='train').select(range(150))\n"
    source += "args = TrainingArguments('o', warmup_steps=100, num_train_epochs=1)\n"
    source += "Trainer(model=model, args=args, train_dataset=rows)"
    assert "the run has 19" in found(source)["warmup-outlasts-run"]["message"]
    # Of two trainers nobody knows which one the rows are for.
    assert "warmup-outlasts-run" not in found(source + "\nTrainer(model=model, args=args)")


def test_the_batch_that_is_dropped_is_not_counted(found):
    source = """\
    from transformers import TrainingArguments
    args = TrainingArguments("o", per_device_train_batch_size=64, dataloader_drop_last=True,
        num_train_epochs=60, warmup_steps=80, logging_steps=1)
    """
    assert "the run has 60" in found(source, examples=100)["warmup-outlasts-run"]["message"]
    kept = source.replace("dataloader_drop_last=True", "dataloader_drop_last=False")
    assert "of 120 updates" in found(kept, examples=100)["warmup-over-third"]["message"]


def test_packing_makes_the_number_of_examples_unknown(found, tmp_path):
    source = "from trl import SFTConfig\nSFTConfig('o', packing=True, warmup_steps=900)"
    assert "warmup-outlasts-run" not in found(source, examples=100)
    report = check_file(str(write(tmp_path, source)), 100, **ALONE)
    assert any("packing joins examples" in line for line in report.lines)
    assert "warmup-outlasts-run" in found(source.replace("True", "False"), examples=100)


def test_epochs_that_are_not_told_do_not_silence_what_max_steps_tells(found):
    source = "from transformers import TrainingArguments\n"
    source += "TrainingArguments('o', num_train_epochs=n, max_steps=80, warmup_steps=100)"
    assert {"warmup-outlasts-run", "epochs-idle"} <= set(found(source))


def test_names_that_a_library_no_longer_has(tmp_path):
    source = "from trl import ORPOConfig, SFTConfig, setup_chat_format\n"
    source += "from transformers import AdamW, Trainer\nSFTConfig('o', max_steps=500)\n"
    report = check_file(str(write(tmp_path, source)), None, **ALONE)
    gone = [(one["argument"], one["line"]) for one in report.findings]
    assert gone == [("ORPOConfig", 1), ("setup_chat_format", 1), ("AdamW", 2)]
    provided = "try:\n    from trl import ORPOConfig\nexcept ImportError:\n    ORPOConfig = None\n"
    assert check_file(str(write(tmp_path, provided)), None, **ALONE).findings == []


def test_a_subclass_keeps_a_field_that_nobody_reads(found):
    source = """\
    from dataclasses import dataclass, field
    import transformers

    @dataclass
    class Own(transformers.TrainingArguments):
        learning_rate: float = field(default=2e-4)
        warmup_ratio: float = field(default=0.03)
        max_source_length: int = 512

    {use}
    """
    parsed = source.format(use="(a,) = transformers.HfArgumentParser(Own).parse_args()")
    finding = found(parsed)["unread-field"]
    assert finding["severity"] == "warning" and finding["argument"] == "warmup_ratio"
    made = source.format(use="Own('o', max_steps=500, max_source_length=64)")
    assert set(found(made)) == {"unread-field"}
    # The file may read its field itself.
    read = made + "\n    print(args.warmup_ratio)"
    assert found(read) == {}
    old = "# pip install transformers==4.40.2\n" + textwrap.dedent(parsed)
    assert found(old) == {}


def test_values_through_functions(found, tmp_path):
    source = """\
    import argparse
    from transformers import TrainingArguments

    def options():
        cli = argparse.ArgumentParser()
        cli.add_argument("--steps", type=int, default=80)
        return cli.parse_args(), 3e-4

    def tune(steps, rate, *, warmup=100):
        return TrainingArguments("o", max_steps=steps, learning_rate=rate, warmup_steps=warmup)

    got, rate = options()
    setattr(model, name, layer)
    tune(got.steps, rate=rate)
    """
    file = write(tmp_path, textwrap.dedent(source))
    (call,) = read_file(str(file)).calls
    assert call.arguments == {
        "output_dir": "o",
        "max_steps": 80,
        "learning_rate": 3e-4,
        "warmup_steps": 100,
    }
    # A second call with another value leaves a doubt.
    twice = textwrap.dedent(source) + "tune(7, rate)\n"
    (call,) = read_file(str(write(tmp_path, twice))).calls
    assert set(call.unread) == {"max_steps"}


def test_defaults_of_a_function_that_the_command_line_starts(tmp_path):
    source = "import fire\nfrom transformers import TrainingArguments\n"
    source += "def train(rate: float = 3e-4, steps: int = 5):\n"
    source += "    TrainingArguments('o', learning_rate=rate, max_steps=steps)\nfire.Fire(train)"
    contents = read_file(str(write(tmp_path, source)))
    assert contents.calls[0].arguments["learning_rate"] == 3e-4
    assert any("the command line can change it" in note for note in contents.notes)


def test_text_of_a_newer_python(tmp_path):
    source = 'names = {"a": 1}\nprint(f"{names["a"]}")\n'
    try:
        compile(source, "x", "exec")
    except SyntaxError:
        with pytest.raises(BadInput, match="needs Python 3.12 to be read"):
            read_file(str(write(tmp_path, source)))
        file = notebook(tmp_path, source, "from trl import SFTConfig\nSFTConfig(max_steps=500)")
        contents = read_file(str(file))
        assert "it may need Python 3.12" in contents.notes[0] and contents.calls


def test_a_finding_stands_where_its_cause_is(tmp_path):
    cells = [
        "import torch\nfrom transformers import *",
        "from transformers import AutoModelForCausalLM as A, Trainer, TrainingArguments\n"
        "model = A.from_pretrained(\n    'o/m',\n    dtype=torch.float16,\n)",
        "Trainer(model=model, args=TrainingArguments('o', fp16=True))",
    ]
    cells[0] = "import torch"
    report = check_file(str(notebook(tmp_path, *cells)), None, **ALONE)
    (finding,) = report.findings
    assert (finding["cell"], finding["line"]) == (2, 4)
    json.dumps(report.findings)


def test_a_function_that_returns_in_a_branch_alone_tells_nothing(tmp_path):
    source = "from transformers import TrainingArguments\n"
    source += "def rate():\n    if BIG:\n        return 1e-3\n"
    source += "def outer():\n    def inner():\n        return 5\n    inner()\n"
    source += "TrainingArguments('o', learning_rate=rate(), max_steps=outer())"
    (call,) = read_file(str(write(tmp_path, source))).calls
    assert set(call.unread) == {"learning_rate", "max_steps"}


def test_asdict_of_a_dataclass_of_constants(tmp_path):
    source = "from dataclasses import asdict, dataclass\n"
    source += "from transformers import TrainingArguments\n"
    source += "@dataclass\nclass H:\n    max_steps: int = 5\n    seed: int = 3\n"
    source += "h = H()\nTrainingArguments('o', **asdict(h))"
    (call,) = read_file(str(write(tmp_path, source))).calls
    assert call.arguments["max_steps"] == 5 and call.arguments["seed"] == 3
    changed = source.replace("Training", "h.seed = 4\nTraining", 2).replace(
        "import h.seed = 4\n", "import "
    )
    (call,) = read_file(str(write(tmp_path, changed))).calls
    assert "seed" in call.unread


@pytest.mark.parametrize("steps", ["None", "'500'", "[]"])
def test_odd_values_beside_packing(steps, check):
    source = f"from trl import SFTConfig\nSFTConfig('o', packing=True, max_steps={steps})"
    assert {rule for rule, _ in check(source)} == {"invalid-value"}


def test_an_import_that_is_gone_is_said_beside_a_trainer_alone(found):
    source = "from trl import ORPOConfig, SFTTrainer\nSFTTrainer('m', tokenizer=t)\n"
    assert set(found(source)) == {"moved-argument", "gone-import"}


def test_the_version_to_install_takes_what_the_file_gives(found):
    source = "from trl import PPOConfig, PPOTrainer\nPPOConfig(total_episodes=9)\n"
    assert found(source)["gone-import"]["fix"].startswith("install an older trl (0.25.1 or before)")
    old = source.replace("total_episodes", "steps")  # of the first PPO, which TRL 0.12 rewrote
    assert found(old)["gone-import"]["fix"].startswith("install an older trl (0.11.4 or before)")


def test_an_attribute_that_is_set_later_is_no_argument(found):
    source = "from transformers import TrainingArguments\nargs = TrainingArguments('o')\n"
    assert set(found(source + "args.half_precision_backend = 'cuda_amp'\n")) == {"unread-field"}
    both = source.replace("'o'", "'o', half_precision_backend='auto'")
    assert set(found(both + "args.half_precision_backend = 'cuda_amp'\n")) == {"removed-argument"}


def test_a_field_that_nobody_reads_is_no_warmup(found):
    source = """\
    import dataclasses, transformers

    @dataclasses.dataclass
    class Own(transformers.TrainingArguments):
        warmup_ratio: float = 0.6

    Own("o", max_steps=500)
    """
    fired = found(source)
    assert set(fired) == {"unread-field"}
    # Without the decorator the base's own __init__ sets its fields.
    assert found(source.replace("@dataclasses.dataclass", "")) == {}
    assert fired["unread-field"]["fix"].startswith("write warmup_steps=0.6 in place of")


def test_a_name_that_is_set_later_has_its_own_line(found):
    source = "from transformers import TrainingArguments\nargs = TrainingArguments('o')\n"
    fired = found(source + "print(1)\nargs.warmup_ratio = 0.1\n")
    assert fired["unread-field"]["line"] == 4
    assert fired["unread-field"]["fix"] == "set warmup_steps"


def test_pins_of_the_project_and_of_the_file(tmp_path):
    (tmp_path / "requirements.txt").write_text("transformers==4.56.2\npeft==0.18\n")
    source = (
        "from transformers import TrainingArguments\nTrainingArguments('o', warmup_ratio=0.1)\n"
    )

    def severity(text: str) -> str:
        (finding,) = check_file(str(write(tmp_path, text)), None, **ALONE).findings
        return finding["severity"]

    assert severity(source) == "hint"
    # What the file installs itself counts, package by package, and the newest as well.
    assert severity("# pip install trl==0.22\n" + source) == "hint"
    assert severity("# pip install -U transformers\n" + source) == "error"
    # A change of the project's is seen.
    (tmp_path / "requirements.txt").write_text("transformers>=5.15\n")
    assert severity(source) == "error"


def test_a_stream_by_its_part(found):
    source = f"{HEAD}rows = load_dataset('o/d', streaming=True)['train']\n"
    source += "Trainer(model=model, args=TrainingArguments('o'), train_dataset=rows)"
    assert "streaming-without-max-steps" in found(source)


@pytest.mark.parametrize(
    "body",
    [
        # Another call gets the model, which may put an adapter on it or give it another format.
        f"model = {LOAD}('o/m', quantization_config=BitsAndBytesConfig(load_in_4bit=True))\n"
        f"model = add_lora(model)\n{TRAIN}",
        f"base = {LOAD}('o/m', quantization_config=BitsAndBytesConfig(load_in_4bit=True))\n"
        "Trainer(model=add_lora(base), args=TrainingArguments('o'), train_dataset=rows)",
        f"model = {LOAD}('o/m', dtype=torch.float16)\nmodel = model.to(torch.float32)\n"
        "Trainer(model=model, args=TrainingArguments('o', fp16=True))",
        f"model = {LOAD}('o/m', dtype=torch.bfloat16)\nmodel.to(dtype=torch.float32)\n{TRAIN}",
        # A part of the data set is another one.
        "rows = load_dataset('o/d', streaming=True)\nrows['train'] = list(rows['train'])\n"
        "Trainer(model=model, args=TrainingArguments('o'), train_dataset=rows['train'])",
        # Each of several sets has metrics of its own name.
        "args = TrainingArguments('o', eval_strategy='epoch', metric_for_best_model='val_f1')\n"
        "Trainer(model=model, args=args, eval_dataset={'val': b}, compute_metrics=None)",
        # The end mark is printed alone.
        "tok = AutoTokenizer.from_pretrained('o/m')\ntok.pad_token = tok.eos_token\n"
        f"print(tok.eos_token)\nc = DataCollatorForLanguageModeling(tok, mlm=False)\n{TRAIN}",
        # What is set after the call counts.
        "args = TrainingArguments('o', max_steps=80, warmup_steps=100)\nargs.max_steps = 1000",
        "args = TrainingArguments('o', max_steps=80, warmup_steps=100)\nsetattr(args, name, 1000)",
        "args = TrainingArguments('o', max_steps=80, warmup_steps=100)\n"
        "args = args.set_training(max_steps=5000)",
        # The seed is set before the function that draws is called.
        f"from transformers import set_seed\ndef build():\n"
        f"    return get_peft_model({LOAD}('o/m'), LoraConfig())\nset_seed(1)\nmodel = build()\n"
        "TrainingArguments('o', seed=1)",
        # It logs the first update, and evaluates at the start.
        "TrainingArguments('o', max_steps=300, logging_first_step=True)",
        "TrainingArguments('o', max_steps=90, eval_strategy='steps', eval_on_start=True, "
        "logging_steps=10, eval_steps=500)",
        "TrainingArguments('o', save_steps=-1, save_total_limit=-1, logging_steps=1.0, bf16=1)",
    ],
)
def test_what_a_hostile_reader_wrote(body, check):
    assert check(HEAD + body) == []


def test_values_that_transformers_takes_though_they_look_odd(tmp_path):
    from transformers import TrainingArguments

    TrainingArguments(
        str(tmp_path), use_cpu=True, save_steps=-1, save_total_limit=-1, logging_steps=1.0, bf16=1
    )


def test_fixes_for_an_older_library_are_in_its_words(found):
    head = "# pip install transformers==4.38.2\nfrom transformers import TrainingArguments\n"
    fired = found(head + "TrainingArguments('o', max_steps=80, warmup_steps=100)")
    assert fired["warmup-outlasts-run"]["fix"] == "set warmup_steps=8: a tenth of the run"
    fired = found(
        head + "TrainingArguments('o', load_best_model_at_end=True, save_strategy='epoch')"
    )
    assert fired["best-model-mismatch"]["fix"] == 'set evaluation_strategy="epoch"'


def test_an_old_name_beside_its_new_one_goes(found):
    source = "from transformers import TrainingArguments\n"
    source += "TrainingArguments('o', warmup_ratio=0.1, warmup_steps=10)"
    assert found(source)["removed-argument"]["fix"] == "leave out warmup_ratio"


def test_a_tag_of_a_repository_is_a_pin(tmp_path):
    cell = "!pip install git+https://github.com/huggingface/transformers.git@v4.40.0"
    source = "from transformers import TrainingArguments\n"
    source += "TrainingArguments('o', evaluation_strategy='no')"
    (finding,) = check_file(str(notebook(tmp_path, cell, source)), None, **ALONE).findings
    assert finding["severity"] == "hint"


def test_a_cell_that_is_not_read_may_put_the_adapter_on(tmp_path):
    cells = [
        HEAD + f"lora = LoraConfig(r=8)\nmodel = {LOAD}('o/m')",
        "%%skip_if done\nmodel = get_peft_model(model, lora)",
        TRAIN,
    ]
    assert check_file(str(notebook(tmp_path, *cells)), None, **ALONE).findings == []


# Fixes that a reader can follow.


def test_a_fix_keeps_what_it_moves(found):
    head = "from trl import RLOOTrainer, SFTTrainer\n"
    fix = found(head + "RLOOTrainer(policy=model, args=args)")["moved-argument"]["fix"]
    assert fix == "call it model"
    # TRL packs into blocks, and refuses to where nobody says how long.
    call = "SFTTrainer(model=model, args=args, packing=True, max_seq_length=None)"
    file = found(head + call)
    assert "max_length=None; with packing it is the length" in file["moved-argument"]["fix"]


def test_an_argument_of_trl_is_no_reason_to_leave_it_out(found):
    source = "from transformers import TrainingArguments\nTrainingArguments('o', max_length=1024)"
    assert found(source)["removed-argument"]["fix"] == (
        "make it a config of TRL, such as SFTConfig, which has it"
    )


def test_a_new_name_in_an_old_library_has_its_old_one(found):
    source = "# pip install transformers==4.20.0\nfrom transformers import TrainingArguments\n"
    finding = found(source + "TrainingArguments('o', eval_strategy='epoch')")["argument-too-new"]
    assert finding["fix"].endswith("or call it evaluation_strategy, as that version does")


def test_the_seed_that_is_set_early_is_the_runs_own(found):
    source = """\
        import argparse
        from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
        parser = argparse.ArgumentParser()
        parser.add_argument("--seed", type=int, default=42)
        args = parser.parse_args()
        model = AutoModelForSequenceClassification.from_pretrained("org/m", num_labels=3)
        Trainer(model, TrainingArguments("o", seed=args.seed))
        """
    fix = found(source)["seed-after-model"]["fix"]
    assert fix == "put transformers.set_seed(the run's seed) before it"
    fix = found(source.replace("seed=args.seed", "seed=7"))["seed-after-model"]["fix"]
    assert fix == "put transformers.set_seed(7) before it"


PARSED = """\
{imports}
from transformers import HfArgumentParser, Seq2SeqTrainingArguments
parser = HfArgumentParser(Seq2SeqTrainingArguments)
(training_args,) = parser.parse_args_into_dataclasses()
{loop}
"""


@pytest.mark.parametrize(
    "imports, loop, fires",
    [
        ("import torch", "Seq2SeqTrainer(model, training_args).train()", True),
        ("import torch", "run(training_args)", True),
        ("import jax", "while step < n: step = pmapped(step)", False),
        ("from jax import numpy", "", False),
        ("import torch", "for batch in rows: model(**batch).loss.backward()", False),
        ("from accelerate import Accelerator", "accelerator.backward(loss)", False),
    ],
)
def test_a_loop_of_ones_own_evaluates_as_it_likes(imports, loop, fires, tmp_path):
    if "Trainer(" in loop:
        imports += "\nfrom transformers import Seq2SeqTrainer"
    write(tmp_path, PARSED.format(imports=imports, loop=loop), "run.py")
    line = "python run.py --output_dir o --eval_steps 500 --generation_max_length 64\n"
    report = check_file(str(write(tmp_path, line, "run.sh")), None, **ALONE)
    rules = {finding["rule"] for finding in report.findings}
    assert ({"evaluation-idle", "generation-idle"} <= rules) is fires


PADDED = """\
{imports}
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments
tokenizer = AutoTokenizer.from_pretrained("{model}")
{guard}tokenizer.pad_token = tokenizer.eos_token
text = "one" + tokenizer.eos_token
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
Trainer(model, TrainingArguments("o"), data_collator=collator)
"""
GUARD = "if tokenizer.pad_token is None:\n    "


@pytest.mark.parametrize(
    "imports, model, guard, fires",
    [
        ("", "Qwen/Qwen3-1.7B", "", True),
        ("", "Qwen/Qwen3-1.7B", GUARD, False),
        ("", "meta-llama/Llama-3.2-1B", GUARD, True),
        ("", "openai-community/gpt2", GUARD, True),
        ("from unsloth import FastLanguageModel", "meta-llama/Llama-3.2-1B", GUARD, False),
    ],
)
def test_padding_that_the_tokenizer_has_is_not_replaced(imports, model, guard, fires, check):
    source = PADDED.format(imports=imports, model=model, guard=guard)
    assert ("pad-is-end-mark" in [rule for rule, _ in check(source)]) is fires


def test_names_of_a_module_that_is_gone_have_a_history_of_their_own(found):
    source = "from trl.core import respond_to_batch\nfrom trl import PPOConfig\nPPOConfig('o')\n"
    assert "the trl that it was written with" in found(source)["gone-import"]["fix"]


def test_what_a_template_puts_in_is_no_value(check):
    line = "python run.py --output_dir o --warmup_steps {} --max_steps 500\n"
    assert ("invalid-value", "error") in check(line.format("soon"), "run.sh")
    for placeholder in ("___WARMUP___", "<steps>", "{{steps}}", "@STEPS@", "%STEPS%"):
        assert check(line.format(placeholder), "run.sh") == []


def test_a_field_that_a_class_declares_keeps_its_name(check):
    source = """\
        from dataclasses import dataclass
        from transformers import HfArgumentParser, TrainingArguments
        @dataclass
        class Mine(TrainingArguments):
            gradient_checkpointing: bool = True
        HfArgumentParser(Mine).parse_args_into_dataclasses()
        """
    assert check(source) == []


def test_the_old_handbooks_recipes_have_words_of_their_own(check):
    recipe = "learning_rate: 5.0e-7\ntorch_dtype: auto\noutput_dir: o\n"
    mixer = "dataset_mixer:\n  org/d: 1.0\n"
    assert check("dataset_name: org/d\n" + recipe, "r.yaml") == [("removed-argument", "error")]
    assert check(mixer + recipe, "r.yaml") == []


def test_flax_ran_under_transformers_4(tmp_path):
    write(tmp_path, PARSED.format(imports="import jax", loop=""), "run.py")
    line = "python run.py --learning_rate 1e-4 --per_device_train_batch_size 4"
    line += " --overwrite_output_dir\n"
    report = check_file(str(write(tmp_path, line, "run.sh")), None, **ALONE)
    assert [finding["severity"] for finding in report.findings] == ["hint"]


@pytest.mark.parametrize("imports, fires", [("import inspect", False), ("import json", True)])
def test_what_the_file_looks_for_in_a_signature_is_not_given_in_vain(imports, fires, check):
    source = f"""\
        {imports}
        from trl import SFTConfig
        given = {{}}
        if "max_seq_length" in names:
            given["max_seq_length"] = 1024
        SFTConfig("o", max_steps=500, **given)
        """
    assert ("removed-argument" in [rule for rule, _ in check(source)]) is fires


def test_padding_of_a_tokenizer_after_the_training_masks_nothing(check):
    source = PADDED.format(imports="", model="openai-community/gpt2", guard="")
    source = source.replace("\nTrainer(", "\ntrainer = Trainer(") + "trainer.train()\n"
    assert "pad-is-end-mark" in [rule for rule, _ in check(source)]
    store = "tokenizer.pad_token = tokenizer.eos_token\n"
    late = source.replace(store, "") + store
    assert "pad-is-end-mark" not in [rule for rule, _ in check(late)]


def test_no_epoch_is_counted_where_there_are_steps(check):
    line = "python run.py --learning_rate 1e-4 --output_dir o --num_train_epochs 0"
    assert ("invalid-value", "error") in check(line, "run.sh")
    assert check(line + " --max_steps 6000", "run.sh") == []


def test_an_escaped_end_of_a_command_is_none(tmp_path):
    line = "python run.py --learning_rate 1e-4 --per_device_train_batch_size 4"
    line += " --chars , ! - \\; \\: --save_total_limit 2\n"
    (call,) = read_file(str(write(tmp_path, line, "run.sh"))).calls
    assert call.arguments["save_total_limit"] == 2
