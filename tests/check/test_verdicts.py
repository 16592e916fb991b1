"""What an independent judge called wrong or noise, each by its kind, with inputs of our own."""

import textwrap

import pytest

from hpkit.check import check_file
from hpkit.check.files import read_file

from .examples import write

ALONE = dict(model=None, device=None, processes=1, lengths=None)
HEAD = "from transformers import TrainingArguments\n"


@pytest.fixture
def found(tmp_path):
    """`found(source)`: the findings by their rule."""

    def one(source: str) -> dict:
        file = write(tmp_path, textwrap.dedent(source), "tune.py")
        return {one["rule"]: one for one in check_file(str(file), None, **ALONE).findings}

    return one


# What is set after the call.


@pytest.mark.parametrize(
    "line",
    [
        "args.overwrite_output_dir = True",
        "args.group_by_length = True",
        "setattr(args, 'overwrite_output_dir', True)",
    ],
)
def test_an_attribute_is_not_refused(line, found):
    old = f"# pip install transformers==4.40.2\n{HEAD}args = TrainingArguments('o')\n{line}\n"
    assert found(old) == {}


@pytest.mark.parametrize("line", ["args.eval_steps = 5", "setattr(args, 'eval_steps', 5)"])
def test_what_is_set_after_the_call_is_not_known(line, tmp_path):
    source = f"{HEAD}args = TrainingArguments('o', eval_steps=9, max_steps=500)\n{line}\n"
    (call,) = read_file(str(write(tmp_path, source))).calls
    assert call.arguments == {"output_dir": "o", "max_steps": 500}
    assert call.unread == ("eval_steps",)
    added = source.replace("eval_steps=9, ", "")
    (call,) = read_file(str(write(tmp_path, added))).calls
    assert call.unread == ("eval_steps",)


def test_a_literal_setattr_is_an_assignment(found):
    source = f"{HEAD}args = TrainingArguments('o')\nsetattr(args, 'warmup_ratio', 0.1)\n"
    assert found(source)["unread-field"]["line"] == 3


@pytest.mark.parametrize("given", ["evaluation_strategy=how()", "eval_strategy=how()"])
def test_what_is_not_told_under_an_old_name_has_no_default(given, found):
    assert "evaluation-idle" not in found(f"{HEAD}TrainingArguments('o', {given}, eval_steps=9)")
    later = (
        f"# pip install transformers==4.40.2\n{HEAD}args = TrainingArguments('o', eval_steps=9)\n"
    )
    assert found(later + f"args.{given.replace('=', ' = ')}") == {}


# A value that somebody else may set.

OPTIONS = """\
import argparse
cli = argparse.ArgumentParser()
cli.add_argument("--group_by_length", action="store_true")
cli.add_argument("--warmup", type=float, default=0.1)
args = cli.parse_args()
"""
FIRE = """\
import fire
def train(group: bool = False, warmup: float = 0.1):
    TrainingArguments("o", group_by_length=group, warmup_ratio=warmup)
fire.Fire(train)
"""


@pytest.mark.parametrize(
    "source",
    [
        FIRE,
        FIRE.replace("fire.Fire(train)", "train()"),
        OPTIONS + "TrainingArguments('o', group_by_length=args.group_by_length, "
        "warmup_ratio=args.warmup)",
        OPTIONS + "group = args.group_by_length\n"
        "TrainingArguments('o', group_by_length=group, warmup_ratio=args.warmup)",
    ],
)
def test_an_option_stays_one(source, tmp_path):
    report = check_file(str(write(tmp_path, HEAD + source)), None, **ALONE)
    fixes = {one["argument"]: one["fix"] for one in report.findings}
    assert fixes["group_by_length"] == (
        'give train_sampling_strategy="group_by_length" in its place, where group_by_length is true'
    )
    assert fixes["warmup_ratio"].startswith("call it warmup_steps, with the same value")


def test_an_option_of_a_trainer_stays_one(found):
    source = "import fire\nfrom trl import SFTTrainer\n"
    source += "def train(size=512):\n    SFTTrainer('m', max_seq_length=size)\nfire.Fire(train)\n"
    assert found(source)["moved-argument"]["fix"].endswith("max_length, with the value of before")


@pytest.mark.parametrize("default, fix", [("False", "give"), ("True", "write")])
def test_a_field_that_nobody_reads_may_be_turned_on(default, fix, found):
    source = "from dataclasses import dataclass\nimport transformers\n@dataclass\n"
    source += "class Own(transformers.TrainingArguments):\n"
    source += f"    group_by_length: bool = {default}\n"
    source += "transformers.HfArgumentParser(Own).parse_args_into_dataclasses()\n"
    told = found(source)["unread-field"]["fix"]
    assert told.startswith(f'{fix} train_sampling_strategy="group_by_length" in ')


def test_a_deprecated_option_stays_one(found):
    source = f"{HEAD}def train(save_memory=True):\n"
    source += "    TrainingArguments('o', gradient_checkpointing=save_memory)\ntrain()\n"
    assert found(source)["deprecated-argument"]["fix"] == "call it activation_checkpointing"


@pytest.mark.parametrize(
    "steps, fix",
    [
        ("args.steps", "leave warmup_ratio out, and where warmup_steps is 0 or not set give"),
        ("0", "write warmup_steps=0.1 in place of warmup_ratio"),
        ("100", "leave out warmup_ratio"),
    ],
)
def test_a_warmup_under_two_names_is_not_lost(steps, fix, found):
    source = "import argparse\ncli = argparse.ArgumentParser()\n"
    source += "cli.add_argument('--steps', type=int, default=0)\nargs = cli.parse_args()\n"
    source += f"{HEAD}TrainingArguments('o', warmup_ratio=0.1, warmup_steps={steps})"
    assert found(source)["removed-argument"]["fix"].startswith(fix)


# A model that goes through something unknown.

REFT = """\
import transformers, pyreft
from trl import DPOConfig, DPOTrainer
model = transformers.AutoModelForCausalLM.from_pretrained("org/Model-8B")
{wrapped}
class OwnTrainer(DPOTrainer): ...
OwnTrainer({given}, args=DPOConfig("o", learning_rate=4e-3))
"""


@pytest.mark.parametrize(
    "wrapped, given, fires",
    [
        ("reft = pyreft.get_reft_model(model, config)", "reft", False),
        ("reft = pyvene.IntervenableModel(config, model=model)", "reft", False),
        ("model = freeze_all_but_norms(model)", "model", False),
        ("", "model", True),
        ("print(model)", "model", True),
    ],
)
def test_a_wrapped_model_may_train_little_of_itself(wrapped, given, fires, found):
    fired = found(REFT.format(wrapped=wrapped, given=given))
    assert ("rate-far-off" in fired) == fires


# Noise.


@pytest.mark.parametrize(
    "pin, fires",
    [(">=5.6.0", False), (">=4.36", False), ("~=5.20.0", False), (">=5.23", True), ("", True)],
)
def test_a_new_name_that_the_oldest_version_does_not_know_is_not_advised(pin, fires, tmp_path):
    (tmp_path / "requirements.txt").write_text(f"transformers{pin}\n")
    source = f"{HEAD}TrainingArguments('o', gradient_checkpointing=True)"
    report = check_file(str(write(tmp_path, source)), None, **ALONE)
    assert bool(report.findings) == fires


TOKENS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
tok = AutoTokenizer.from_pretrained({name})
tok.add_tokens(["<eod>", "<sep>"])
model = AutoModelForCausalLM.from_pretrained({name})
Trainer(model=model, args=TrainingArguments("o"), train_dataset=rows)
"""


@pytest.mark.parametrize(
    "name, severity",
    [
        ('"org/Llama-2-7b"', "warning"),
        ('"org/Model-7b"', "hint"),
        ("options.model", None),
        ("sys.argv[1]", None),
    ],
)
def test_tokens_for_a_model_that_may_have_rows_to_spare(name, severity, found):
    fired = found(TOKENS.format(name=name)).get("tokens-without-embedding")
    assert (fired and fired["severity"]) == severity
    # Another model that the file names may be the one that is trained, where no other is named.
    judged = found(TOKENS.format(name=name) + "usual = 'org/Vicuna-7b'\n")
    assert judged["tokens-without-embedding"]["severity"] == (severity or "hint")
    if severity == "hint":
        assert "unless it has rows to spare" in fired["message"]


@pytest.mark.parametrize("given, severity", [("", "hint"), ("logging_steps=400, ", "warning")])
def test_a_loss_that_nobody_asked_for_is_a_hint(given, severity, found):
    source = f"{HEAD}def one_round():\n    TrainingArguments('o', {given}max_steps=300)\n"
    assert found(source)["no-training-loss"]["severity"] == severity


@pytest.mark.parametrize(
    "given, fires",
    [("", True), (", save_total_limit=40", False), (", save_total_limit=None", False)],
)
def test_who_writes_how_many_checkpoints_stay_has_thought_of_it(given, fires, found):
    source = f"{HEAD}TrainingArguments('o', max_steps=2000, save_steps=50{given})"
    assert ("disk-filled" in found(source)) == fires


@pytest.mark.parametrize(
    "line",
    [
        "torchrun t.py --bf16 True --logging_steps 5 \\\n  `# often` \\\n  --max_steps 500\n",
        "torchrun t.py --bf16 True --logging_steps `nproc` --max_steps 500\n",
    ],
)
def test_a_command_among_the_words_of_a_line(line, tmp_path):
    file = write(tmp_path, line, "run.sh")
    (call,) = read_file(str(file)).calls
    assert call.arguments["max_steps"] == 500
    assert call.arguments.get("logging_steps", 5) == 5


# Modules that are gone.


@pytest.mark.parametrize(
    "line, module",
    [
        ("from trl.commands.cli_utils import TrlParser", "trl.commands.cli_utils"),
        ("from trl.core import PPODecorators, LengthSampler", "trl.core"),
    ],
)
def test_a_module_that_is_gone(line, module, found):
    fired = found(f"{line}\n{HEAD}TrainingArguments('o', max_steps=500, logging_steps=5)")
    assert fired["gone-import"]["argument"] == module
    assert found(f"# pip install trl==0.11.4\n{line}\n") == {}
    assert found(f"try:\n    {line}\nexcept ImportError:\n    pass\n") == {}


# Unsloth after the training.

AFTERWARDS = """\
# pip install transformers==4.46.2 trl==0.12.1
from trl import SFTConfig
{before}
args = SFTConfig("o", logging_dir="logs", max_seq_length=64)
{after}
"""
UNSLOTH = "from unsloth import FastLanguageModel"


@pytest.mark.parametrize(
    "before, after, counts",
    [
        (UNSLOTH, "", True),
        ("", UNSLOTH, False),
        ("", "import unsloth.models", False),
        ("import os, unsloth", UNSLOTH, True),
        # When a function runs is not told.
        ("", "def load():\n    import unsloth", True),
    ],
)
def test_unsloth_changes_nothing_before_its_import(before, after, counts, tmp_path):
    file = write(tmp_path, AFTERWARDS.format(before=before, after=after))
    (call,) = read_file(str(file)).calls
    assert call.written.unsloth == counts


def test_a_trainer_before_unsloth_is_plain(found):
    source = "from trl import SFTTrainer\nSFTTrainer('m', max_seq_length=9)\n"
    assert "moved-argument" in found(source + "import unsloth\n")
    assert "moved-argument" not in found("import unsloth\n" + source)


# The word for the format of the weights.

LOADED = """\
{pin}
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("org/m", {word}=torch.{format})
Trainer(model=model, args=TrainingArguments("o", {half}=True, learning_rate=1e-5))
"""


@pytest.mark.parametrize(
    "pin, word, advised",
    [
        ("", "dtype", "dtype"),
        ("", "torch_dtype", "torch_dtype"),
        ("# pip install transformers==4.44.0", "torch_dtype", "torch_dtype"),
        ("# pip install transformers==4.55.4", "dtype", "torch_dtype"),
        ("# pip install transformers==4.56.0", "dtype", "dtype"),
        ("# pip install git+https://github.com/o/transformers@e45e756d", "dtype", "torch_dtype"),
    ],
)
@pytest.mark.parametrize(
    "rule, half, form",
    [
        ("bf16-weights-without-masters", "bf16", "bfloat16"),
        ("fp16-weights-unscaled", "fp16", "float16"),
    ],
)
def test_the_fix_has_the_word_that_works(pin, word, advised, rule, half, form, found):
    fired = found(LOADED.format(pin=pin, word=word, format=form, half=half))
    assert f"load the model with {advised}=torch.float32" in fired[rule]["fix"]


# A trainer of another loss, with plain arguments.

PLAIN = """\
from peft import LoraConfig
from transformers import TrainingArguments
from trl import SFTTrainer, DPOTrainer, RewardTrainer
{made}
args = TrainingArguments("o", num_train_epochs=1{rate})
"""


@pytest.mark.parametrize(
    "made, fires",
    [
        ("SFTTrainer(model='o/m', peft_config=LoraConfig(r=8))", True),
        ("DPOTrainer(model='o/m', peft_config=LoraConfig(r=8))", False),
        ("RewardTrainer(model='o/m', peft_config=LoraConfig(r=8))", False),
        ("class Own(DPOTrainer): ...\nOwn(model='o/m', peft_config=LoraConfig(r=8))", False),
    ],
)
def test_a_preference_loss_has_rates_of_its_own(made, fires, found):
    assert ("rate-far-off" in found(PLAIN.format(made=made, rate=", learning_rate=5e-6"))) == fires
    assert ("adapter-default-rate" in found(PLAIN.format(made=made, rate=""))) == fires


def test_a_config_of_imitation_says_more_than_a_trainer_beside_it(found):
    made = "DPOTrainer('m', peft_config=LoraConfig(r=8))"
    plain = PLAIN.format(made=made, rate="")
    source = "from trl import SFTConfig\n" + plain.replace("TrainingArguments(", "SFTConfig(")
    assert "adapter-default-rate" in found(source)


@pytest.mark.parametrize("trainer, fires", [("DPOTrainer", False), ("SFTTrainer", True)])
def test_a_launched_script_says_by_which_loss(trainer, fires, tmp_path):
    script = f"""\
    from peft import LoraConfig
    from transformers import HfArgumentParser, TrainingArguments
    from trl import {trainer}
    (args,) = HfArgumentParser((TrainingArguments,)).parse_args_into_dataclasses()
    {trainer}("m", args=args, peft_config=LoraConfig(r=8))
    """
    write(tmp_path, textwrap.dedent(script))
    line = "python train.py --learning_rate 5e-6 --num_train_epochs 1 --bf16 True "
    line += "--model_name_or_path o/m\n"
    report = check_file(str(write(tmp_path, line, "run.sh")), None, **ALONE)
    assert ("rate-far-off" in [one["rule"] for one in report.findings]) == fires


# Checkpoints that are small, or that are needed.

CHECKPOINTS = "args = TrainingArguments('o', max_steps=2000, save_steps=50, logging_steps=5)\n"


@pytest.mark.parametrize(
    "more, fires",
    [
        ("", True),
        ("from peft import get_peft_model\nmodel = get_peft_model(model, config)\n", False),
        ("model = load('o/checkpoint-300')\n", False),
        ("best = f'{folder}/checkpoint-1500'\n", False),
        ("best = f'{folder}/checkpoint-{step}'\n", True),
        ("'''Writes o/checkpoint-300 and its like.'''\n", True),
    ],
)
def test_checkpoints_that_may_stay(more, fires, found):
    assert ("disk-filled" in found(HEAD + CHECKPOINTS + more)) == fires


# The name of an argument, in words as well.


@pytest.mark.parametrize(
    "pin, name",
    [
        ("4.37.0", "evaluation_strategy"),
        ("4.44.2", "eval_strategy"),
        ("5.0.0", "eval_strategy"),
    ],
)
def test_words_have_the_name_that_works(pin, name, found):
    head = f"# pip install transformers=={pin}\n{HEAD}"
    finding = found(f"{head}TrainingArguments('o', eval_steps=50)")["evaluation-idle"]
    assert f": {name} is no" in finding["message"]
    assert f'or set {name}="steps"' in finding["fix"]
    # Who says that it is off keeps the interval for another time.
    for off in (f"{name}='no'", "do_eval=False"):
        call = f"TrainingArguments('o', {off}, eval_steps=50)"
        assert "evaluation-idle" not in found(head + call)


def test_steps_that_a_comment_explains_are_meant(found):
    call = "TrainingArguments(\n'o',\nmax_steps=939 - 800,{}\nnum_train_epochs=3)\n"
    assert "epochs-idle" in found(HEAD + call.format(""))
    assert "epochs-idle" not in found(HEAD + call.format("  # the rest of the run"))


# Who reads a file of settings.

SETTINGS = "learning_rate: 1.0e-4\nnum_train_epochs: 3\noutput_dir: o\n"
IDLE = SETTINGS + "eval_steps: 20\n"


@pytest.fixture
def rules(tmp_path):
    """`rules(settings, script)`: what is found in a repository's settings file."""

    def some(settings: str, script: str = "") -> set[str]:
        (tmp_path / ".git").mkdir(exist_ok=True)
        write(tmp_path, textwrap.dedent(script), "run.py")
        file = write(tmp_path, settings, "one.yaml")
        return {one["rule"] for one in check_file(str(file), None, **ALONE).findings}

    return some


@pytest.mark.parametrize(
    "more, script, fires",
    [
        ("", "", True),
        ("", "TrainingArguments('o', eval_steps=args.eval_steps)\n", True),
        ("eval_file: a.jsonl\n", "", False),
        ("sft_adapter_path: o\n", "", False),
        ("", "every = config['eval_steps']\n", False),
        ("", "every = settings.get('eval_steps', 100)\n", False),
        ("", "every = cfg.eval_steps\n", False),
        ("eval_file: a.jsonl\neval_strategy: 'no'\n", "", False),
    ],
)
def test_a_script_of_ones_own_may_evaluate(more, script, fires, rules):
    assert ("evaluation-idle" in rules(IDLE + more, script)) is fires


OWN = "class Own:\n    warmup_ratio: float = 0.05\n"
OLD = SETTINGS + "warmup_ratio: 0.1\n"


@pytest.mark.parametrize(
    "script, fires",
    [
        (OWN, False),
        ("", True),
        (OWN + "parser = HfArgumentParser(Own)\n", True),
        ("def train(\n    warmup_ratio: float = 0.1,\n):\n    pass\n", True),
    ],
)
def test_a_class_of_ones_own_has_its_own_names(script, fires, rules):
    assert ("removed-argument" in rules(OLD, script)) is fires


@pytest.mark.parametrize(
    "key", ["target_modules: [q_proj, v_proj]", "lora_r: all", "bnb_4bit_compute_dtype: half"]
)
def test_an_adapters_keys_are_another_tools_own(key, rules):
    assert "invalid-value" not in rules(SETTINGS + key + "\n")
    assert "invalid-value" in rules(SETTINGS.replace("1.0e-4", "fast") + key + "\n")
