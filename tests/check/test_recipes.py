"""Settings of other tools and launch lines, under transformers' names."""

import json
import textwrap

import pytest

from hpkit.check import check_file
from hpkit.check.dialects import dialects
from hpkit.check.files import read_file
from hpkit.errors import BadInput
from hpkit.preflight.libraries import known_classes, names_of, training_argument_names

from .examples import notebook, write

ALONE = dict(model=None, device=None, processes=1, lengths=None)

TRL = """\
# trl sft --config recipe.yaml
model_name_or_path: org/m
dataset_name: org/d
learning_rate: 2.0e-4
warmup_ratio: 0.6
eval_strategy: "no"
per_device_train_batch_size: "4"
max_steps: 500
max_seq_length: 512
my_own_option: 3
"""
AXOLOTL = """\
base_model: org/m
datasets:
  - path: org/d
    type: alpaca
sequence_len: 2048
adapter: qlora
load_in_4bit: true
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
warmup_ratio: 0.1
bf16: auto
special_tokens:
"""
LLAMA_FACTORY = """\
model_name_or_path: org/m
stage: sft
finetuning_type: lora
cutoff_len: 1024
learning_rate: 1e-4
warmup_ratio: 0.1
num_train_epochs: 3.0
overwrite_output_dir: true
"""


@pytest.fixture
def read(tmp_path):
    """`read(text)`: (the one call of a file, its notes)."""

    def one(text: str, name: str = "recipe.yaml"):
        contents = read_file(str(write(tmp_path, textwrap.dedent(text), name)))
        calls = contents.calls or [None]
        assert len(calls) == 1
        return calls[0], contents.notes

    return one


@pytest.fixture
def found(tmp_path):
    """`found(text)`: the findings by (rule, argument)."""

    def one(text: str, name: str = "recipe.yaml") -> dict:
        file = write(tmp_path, textwrap.dedent(text), name)
        report = check_file(str(file), None, **ALONE)
        return {(one["rule"], one["argument"]): one for one in report.findings}

    return one


def test_a_recipe_of_trl(read, found):
    call, _ = read(TRL)
    assert call.arguments["learning_rate"] == 2e-4
    assert call.arguments["per_device_train_batch_size"] == 4  # its parser reads the text
    assert call.lines["warmup_ratio"] == 5
    fired = found(TRL)
    assert set(fired) == {
        ("removed-argument", "warmup_ratio"),
        ("removed-argument", "max_seq_length"),
        ("warmup-over-third", "warmup_steps"),
    }
    fix = fired["removed-argument", "max_seq_length"]["fix"]
    assert fix == "write max_length: 512 in place of max_seq_length"


def test_an_adapter_that_nobody_turns_on(found):
    finding = found(TRL + "lora_r: 16\n")["adapter-not-applied", "idle_adapter"]
    assert finding["fix"] == "set use_peft: true"
    assert found(TRL + "lora_r: 16\nuse_peft: true\n").keys() == found(TRL).keys()


def test_a_bare_no_is_false_in_yaml(found):
    fired = found(TRL.replace('"no"', "no"))
    finding = fired["invalid-value", "eval_strategy"]
    assert finding["message"] == "eval_strategy is false, as YAML reads a bare no"
    assert finding["line"] == 6


def test_a_recipe_of_axolotl_goes_by_axolotls_names(read, found):
    call, _ = read(AXOLOTL)
    assert call.arguments["per_device_train_batch_size"] == 2
    assert call.arguments["num_train_epochs"] == 3 and call.arguments["max_length"] == 2048
    assert call.arguments["learning_rate"] == 2e-4 and "bf16" in call.unread
    assert call.written.around.adapter == "adapter: qlora"
    assert found(AXOLOTL) == {}  # warmup_ratio is its own word
    wrong = AXOLOTL.replace("num_epochs", "num_train_epochs").replace(
        "lr_scheduler", "lr_shceduler"
    )
    assert set(found(wrong)) == {
        ("unread-key", "num_train_epochs"),
        ("unread-key", "lr_shceduler"),
    }
    both = AXOLOTL + "warmup_steps: 10\nsample_packing: true\nrl: dpo\n"
    assert {("keys-exclude", "warmup_ratio"), ("keys-exclude", "rl")} <= set(found(both))
    bare = AXOLOTL.replace("adapter: qlora\n", "")
    assert ("quantized-without-adapter", "quantized") in found(bare)


def test_a_recipe_of_llama_factory(read, found):
    call, _ = read(LLAMA_FACTORY)
    assert call.arguments["max_length"] == 1024 and call.written.around.adapter
    fired = found(LLAMA_FACTORY)
    # It takes overwrite_output_dir itself, and has a transformers that takes warmup_ratio.
    assert set(fired) == {("removed-argument", "warmup_ratio")}
    assert fired["removed-argument", "warmup_ratio"]["severity"] == "hint"
    quoted = LLAMA_FACTORY.replace("1e-4", '"1e-4"')
    assert ("invalid-value", "learning_rate") in found(quoted)
    # Without a word it trains an adapter.
    bare = LLAMA_FACTORY.replace("finetuning_type: lora\n", "").replace("org/m", "org/Model-9B")
    assert read(bare)[0].written.around.adapter
    assert ("rate-far-off", "learning_rate") not in found(bare.replace("1e-4", "3e-4"))
    full = LLAMA_FACTORY.replace("lora", "full").replace("org/m", "org/Model-9B")
    assert ("rate-far-off", "learning_rate") in found(full.replace("1e-4", "3e-4"))


def test_settings_in_json(read, found):
    settings = {
        "model_name_or_path": "gpt2",
        "output_dir": "o",
        "per_device_train_batch_size": 8,
        "num_train_epochs": 3,
        "overwrite_output_dir": True,
        "block_size": 512,
    }
    text = json.dumps(settings, indent=1)
    call, _ = read(text, "args.json")
    assert call.arguments["block_size"] == 512 and call.lines["num_train_epochs"] == 5
    small = text.replace('"block_size": 512', '"router_rate": 1e-5')
    assert read(small, "args.json")[0].arguments["router_rate"] == 1e-5
    fired = found(text.replace('"overwrite_output_dir": true', '"warmup_ratio": 0.1'), "args.json")
    fix = fired["removed-argument", "warmup_ratio"]["fix"]
    assert fix.startswith('write "warmup_steps": 0.1 in place of warmup_ratio')


@pytest.mark.parametrize(
    "name, text, note",
    [
        ("t.yaml", "model:\n  _component_: torchtune.models.llama3\nepochs: 3\n", "torchtune"),
        ("a.yaml", "compute_environment: LOCAL_MACHINE\nmixed_precision: bf16\n", "accelerate"),
        ("d.json", '{"zero_optimization": {"stage": 3}, "bf16": {"enabled": true}}', "DeepSpeed"),
        ("u.yaml", "training:\n  num_epochs: 1\nlora: {}\nlogging: {}\n", "Unsloth Studio"),
        (
            "s.yaml",
            "tuner_type: lora\nlearning_rate: 1e-4\neval_steps: 9\nmax_steps: 50\n",
            "ms-swift",
        ),
        ("c.yaml", "services:\n  web:\n    image: x\n", "no settings of a training were found"),
        ("l.yaml", "- a\n- b\n", "no settings of a training were found"),
        ("m.yaml", "a: 1\n---\nb: 2\n", "no settings of a training were found"),
        ("e.yaml", "", "no settings of a training were found"),
        ("x.sh", "ls -l\npython serve.py --port 80\n", "no line that launches a training"),
    ],
)
def test_what_is_no_configuration_of_ours_is_said(name, text, note, read):
    call, notes = read(text, name)
    assert call is None and note in notes[0]


@pytest.mark.parametrize(
    "name, text",
    [
        ("b.yaml", "a: [1\n"),
        ("b.yaml", "a: b: c\n"),
        ("b.json", '{"learning_rate": }'),
        ("b.yaml", "\x00"),
        ("b.yaml", "a: &x [*x]\nlearning_rate: 1\n"),
        ("b.json", "[" * 100_000),
        ("b.yaml", "a: " + "[" * 100_000),  # libyaml would end the process
        ("b.yaml", "a: !!python/object/apply:os.system [ls]\nlearning_rate: 1\n"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_runs_nothing(name, text, read):
    try:
        call, _ = read(text, name)
        assert call is None or "a" not in call.arguments
    except BadInput as error:
        assert "\n" not in str(error) and name in str(error)


PARSER = """\
from transformers import HfArgumentParser, TrainingArguments
(args,) = HfArgumentParser((TrainingArguments,)).parse_args_into_dataclasses()
"""
LAUNCH = """\
#!/bin/bash
export WANDB_PROJECT=x
LR=2e-4
STEPS=500
ARGS=(
    --per_device_train_batch_size 4   # on each
    --bf16 True
)
pip install transformers trl
if [ -n "$FAST" ]; then
    STEPS=50
fi
torchrun --nproc_per_node 2 tune.py \\
    "${ARGS[@]}" \\
    --learning-rate "$LR" --fp16=True \\
    --warmup_ratio 0.1 \\
    --max_steps ${STEPS} --seed $SEED --save-strategy no \\
    --lora_target_modules q_proj v_proj \\
    --output_dir "out/$NAME" 2>&1 | tee log
"""


def test_a_launch_line(read, found, tmp_path):
    write(tmp_path, PARSER, "tune.py")
    call, _ = read(LAUNCH, "tune.sh")
    assert call.arguments == {
        "per_device_train_batch_size": 4,
        "bf16": True,
        "learning_rate": 2e-4,
        "fp16": True,
        "warmup_ratio": 0.1,
        "max_steps": 500,
        "save_strategy": "no",
        "lora_target_modules": ["q_proj", "v_proj"],
    }
    assert set(call.unread) == {"seed", "output_dir"}
    assert call.written.around.processes == 2
    assert call.lines["warmup_ratio"] == 16 and call.lines["learning_rate"] == 15
    fired = found(LAUNCH, "tune.sh")
    assert set(fired) == {("both-halves", "fp16"), ("removed-argument", "warmup_ratio")}
    assert fired["both-halves", "fp16"]["fix"] == "set --fp16 False"
    old = LAUNCH.replace("pip install transformers", "pip install transformers==4.46.3")
    assert found(old, "tune.sh")["removed-argument", "warmup_ratio"]["severity"] == "hint"


@pytest.mark.parametrize(
    "line, name",
    [
        ("accelerate launch t.py --num_train_epochs 3 --warmup_ratio 0.1", "TrainingArguments"),
        ("deepspeed t.py --deepspeed z.json --num_train_epochs 3 --bf16", "TrainingArguments"),
        ("CUDA_VISIBLE_DEVICES=0 python -m torch.distributed.run t.py --bf16 --max_steps 9", ""),
        ("trl sft --model_name_or_path o/m --learning_rate 1e-4 --max_steps 9 --bf16", "SFTConfig"),
        ("trl dpo --learning_rate 1e-6 --per_device_train_batch_size 2", "DPOConfig"),
        ("uv run t.py --learning_rate 1e-4 --logging_steps 5", "TrainingArguments"),
    ],
)
def test_launchers(line, name, read):
    call, _ = read(line, "run.sh")
    assert name in call.name


@pytest.mark.parametrize(
    "line",
    [
        "accelerate launch lora.py --train_batch_size=1 --gradient_accumulation_steps=4 --bf16",
        "python run_glue_no_trainer.py --per_device_train_batch_size 8 --num_train_epochs 3",
        "python t.py --learning_rate 1e-4 --output_dir o",  # every parser has these
        "python -c 'print(1)' --bf16 --fp16",
        "echo torchrunner --bf16 --fp16 --max_steps 3",
        "echo 'run: python t.py --bf16 True --fp16 True --max_steps 3'",
        "# old: torchrun t.py --bf16 True --fp16 True --max_steps 3",
        "axolotl train c.yaml --warmup_ratio 0.1 --max_steps 3",
        "torchrun swift/cli/sft.py --eval_steps 100 --warmup_ratio 0.1 --max_steps 3",
    ],
)
def test_other_peoples_parsers(line, read):
    call, _ = read(line, "run.sh")
    assert call is None


def test_launch_lines_of_a_notebook(tmp_path):
    cells = [
        "x = 1\n!accelerate launch t.py --bf16 True --fp16 True \\\n    --max_steps 40",
        "%%bash\ntorchrun t.py --bf16 True --fp16 True --num_train_epochs 1",
    ]
    report = check_file(str(notebook(tmp_path, *cells)), None, **ALONE)
    places = [(one["rule"], one["cell"], one["line"]) for one in report.findings]
    assert places == [("both-halves", 1, 2), ("both-halves", 2, 2)]


SCRIPT = """\
from dataclasses import dataclass
from transformers import HfArgumentParser, TrainingArguments

@dataclass
class Data:
    corpus: str = "c"

@dataclass
class Own(TrainingArguments):
    learning_rate: float = 3e-4
    bf16: bool = True

data, args = HfArgumentParser((Data, Own)).parse_yaml_file("r.yaml")
"""


def test_a_script_with_its_recipe(tmp_path):
    script = write(tmp_path, SCRIPT, "sft.py")
    recipe = write(
        tmp_path, "corpus: x\nmax_steps: 500\noutput_dir: o\nnum_train_epochs: 1\n", "r.yaml"
    )
    report = check_file(str(script), None, str(recipe), **ALONE)
    (call,) = report.calls
    assert call["arguments"]["learning_rate"] == 3e-4 and call["arguments"]["max_steps"] == 500
    assert [one["rule"] for one in report.findings] == []
    wrong = recipe.read_text() + "fp16: true\ncorpse: x\nper_device_train_batch_size: 8\n"
    recipe.write_text(wrong)
    findings = check_file(str(script), None, str(recipe), **ALONE).findings
    assert {(one["rule"], one["argument"]) for one in findings} == {
        ("both-halves", "fp16"),
        ("removed-argument", "corpse"),
    }
    assert all(one["file"] == str(recipe) for one in findings)
    # What the project installs decides here, too.
    (tmp_path / "requirements.txt").write_text("transformers==4.56.2\n")
    recipe.write_text("max_steps: 500\noutput_dir: o\nwarmup_ratio: 0.1\n")
    (hint,) = check_file(str(script), None, str(recipe), **ALONE).findings
    assert (hint["rule"], hint["severity"]) == ("removed-argument", "hint")
    (tmp_path / "requirements.txt").unlink()
    # A launch line gives the values as well.
    line = write(tmp_path, "torchrun sft.py --corpus x --fp16 True --max_steps 500\n", "run.sh")
    findings = check_file(str(script), None, str(line), **ALONE).findings
    assert [one["rule"] for one in findings] == ["both-halves"]


def test_a_script_or_file_that_does_not_fit_is_one_line(tmp_path):
    plain = write(tmp_path, "print(1)", "plain.py")
    recipe = write(tmp_path, TRL, "r.yaml")
    with pytest.raises(BadInput, match="expected a script with HfArgumentParser"):
        check_file(str(plain), None, str(recipe), **ALONE)
    nothing = write(tmp_path, "- a\n", "n.yaml")
    script = write(tmp_path, SCRIPT, "sft.py")
    with pytest.raises(BadInput, match="expected the settings or launch lines"):
        check_file(str(script), None, str(nothing), **ALONE)


def test_the_table_of_tools_names_what_the_tools_take():
    for dialect in dialects().values():
        ours = training_argument_names() | names_of("trl", "SFTConfig")
        assert set(dialect.names.values()) <= ours, dialect.name
        if dialect.judged_by in ("transformers", "trl"):
            continue
        theirs = set()
        for name in known_classes(dialect.judged_by):
            theirs |= names_of(dialect.judged_by, name)
        assert set(dialect.names) <= theirs
        for pair in dialect.excludes:
            assert set(pair) <= theirs


def test_settings_that_are_merged_in(read):
    text = "base: &b\n  max_steps: 1000\n<<: *b\ndataset_name: o/d\nlearning_rate: 1.0e-5\n"
    assert read(text)[0].arguments["max_steps"] == 1000


def test_a_line_beside_a_file_of_settings_claims_no_defaults(found):
    for line in (
        "trl sft --config base.yaml --eval_steps 100 --max_steps 1000",
        "accelerate launch run.py recipe.yaml --eval_steps 100 --bf16 True --max_steps 1000",
    ):
        assert found(line, "run.sh") == {}


def test_schedules_and_methods_of_the_tools_own(found):
    assert found(AXOLOTL.replace("cosine", "rex")) == {}
    freeze = LLAMA_FACTORY.replace("lora", "freeze").replace("org/m", "org/Model-9B")
    assert ("rate-far-off", "learning_rate") not in found(freeze.replace("1e-4", "3e-4"))
    short = AXOLOTL.replace("warmup_ratio: 0.1", "warmup_steps: 100\nmax_steps: 80")
    fix = found(short)["warmup-outlasts-run", "warmup_steps"]["fix"]
    assert fix == "set warmup_steps: 8: a tenth of the run"  # it takes no share here


def test_flags_that_switch_off_and_the_callers_own(read):
    line = 'torchrun t.py --no_remove_unused_columns --max_steps 100 --warmup_steps 10 "$@"'
    call, _ = read(line, "run.sh")
    assert call.arguments == {"remove_unused_columns": False, "max_steps": 100, "warmup_steps": 10}


def test_fixes_are_yaml_and_flags(found, tmp_path):
    import yaml

    write(tmp_path, PARSER, "t.py")
    text = TRL.replace("warmup_ratio: 0.6\n", "lr_scheduler_type: polynomial\n")
    fix = found(text.replace("2.0e-4", "1.0e-8"))["polynomial-below-end", "learning_rate"]["fix"]
    written = fix.removeprefix("set ").partition(", or")[0]
    assert yaml.safe_load(written) == {"lr_scheduler_kwargs": {"lr_end": 1e-9}}
    line = "torchrun t.py --include_inputs_for_metrics True --max_steps 100 --bf16 True"
    fix = found(line, "run.sh")["removed-argument", "include_inputs_for_metrics"]["fix"]
    assert fix.startswith("write --include_for_metrics inputs in place of")


def test_json_that_is_no_yaml(read):
    text = '{"dataset_name": "o/d", "learning_rate": 1e-4, "output_dir": "\\ud83d\\ude00"}'
    assert read(text, "r.json")[0].arguments["learning_rate"] == 1e-4


def test_a_file_with_names_of_its_own_is_not_judged_as_trls(found):
    recipe = "learning_rate: 1e-4\nper_device_train_batch_size: 1\nmax_prompt_length: 10\nbf16: 1\n"
    recipe += "lora_alpha: 16\n"
    refused = ("removed-argument", "max_prompt_length")
    assert set(found(recipe)) == {refused, ("adapter-not-applied", "idle_adapter")}
    assert set(found(recipe + "system_prompt: Think.\n")) == set(found(recipe))
    # Which of them its own classes take, and what turns its adapter on, nobody can tell.
    assert found(recipe + "train_mode: lora\ntrain_file: d.jsonl\n") == {}
    old = recipe + "train_mode: lora\ntrain_file: d.jsonl\nevaluation_strategy: steps\n"
    assert set(found(old)) == {("removed-argument", "evaluation_strategy")}


def test_a_script_without_a_trainer_has_names_of_its_own(read):
    recipe = "dataset_name: o/d\nlearning_rate: 1e-4\nwarmup_ratio: 0.03\nnum_train_epochs: 2\n"
    assert read(recipe)[0] is not None
    assert read(recipe + "with_tracking: true\n")[0] is None


@pytest.mark.parametrize("launched_on, severity", [(None, "warning"), (1, "error"), (2, "error")])
def test_a_recipe_may_be_for_several_devices(launched_on, severity, found):
    flags = "--num_generations 14 --per_device_train_batch_size 16 --learning_rate 1e-6"
    processes = f"--num_processes {launched_on}" if launched_on else ""
    line = f"accelerate launch {processes} trl/scripts/grpo.py --model_name_or_path org/m {flags}"
    fired = found(f"{line} --max_steps 500\n", "run.sh")
    told = fired["generations-do-not-divide", "num_generations"]
    assert told["severity"] == severity
    devices = 14 if launched_on == 2 else 7
    assert told["fix"].endswith(f"or train on a multiple of {devices} devices")
