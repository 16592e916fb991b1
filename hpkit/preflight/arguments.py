"""The arguments of the installed transformers, and what became of those it no longer takes."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

from hpkit.formatting import shown

#: Classes whose defaults are exactly transformers'.
TRANSFORMERS_ARGUMENTS = ("TrainingArguments", "Seq2SeqTrainingArguments")
#: Arguments for which TRL's classes, and a person's own, have other defaults.
CHANGED_ELSEWHERE = (
    "learning_rate",
    "logging_steps",
    "bf16",
    "gradient_checkpointing",
    "activation_checkpointing",
)
#: Classes under which an update takes batch x accumulation examples. TRL's GRPO and its like
#: generate, and count otherwise.
COUNT_ALIKE = (
    *TRANSFORMERS_ARGUMENTS,
    "SFTConfig",
    "DPOConfig",
    "KTOConfig",
    "ORPOConfig",
    "CPOConfig",
    "RewardConfig",
    "UnslothTrainingArguments",
)

#: Arguments of transformers 4 that 5 no longer takes, and what to write instead, from the fields of
#: 4.38 and 4.57 that 5.23 lacks. The first seven stand in most old scripts.
SUCCESSORS = {
    "warmup_ratio": "warmup_steps={}: below 1 it is a share of the run",
    "evaluation_strategy": "eval_strategy={}",
    "no_cuda": "use_cpu={}",
    "logging_dir": "leave it out, and set the environment variable TENSORBOARD_LOGGING_DIR",
    "overwrite_output_dir": (
        "leave it out: the folder is written to, "
        "and only trainer.train(resume_from_checkpoint=True) resumes"
    ),
    "save_safetensors": "leave it out: weights are always saved as safetensors",
    "group_by_length": "train_sampling_strategy=group_by_length",
    "per_gpu_train_batch_size": "per_device_train_batch_size={}",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size={}",
    "adafactor": "optim=adafactor",
    "half_precision_backend": "leave it out: torch's autocast is the only one left",
    "fp16_backend": "leave it out: torch's autocast is the only one left",
    "fp16_opt_level": "leave it out: it belonged to apex",
    "use_mps_device": "leave it out: Apple's GPU is used where there is one",
    "use_ipex": "leave it out: torch holds what it did",
    "torchdynamo": "torch_compile=true",
    "include_tokens_per_second": "include_num_input_tokens_seen=all",
    "include_inputs_for_metrics": 'include_for_metrics=["inputs"]',
    "push_to_hub_token": "hub_token={}",
    "push_to_hub_model_id": "hub_model_id={}",
    "push_to_hub_organization": "hub_model_id=organization/name",
    "dispatch_batches": 'accelerator_config={{"dispatch_batches": {}}}',
    "split_batches": 'accelerator_config={{"split_batches": {}}}',
    "fsdp_min_num_params": 'fsdp_config={{"min_num_params": {}}}',
    "fsdp_transformer_layer_cls_to_wrap": 'fsdp_config={{"transformer_layer_cls_to_wrap": {}}}',
    "max_seq_length": (
        "leave it out: the tokenizer cuts (max_length=…, truncation=True), "
        "and in TRL it is SFTConfig(max_length=…)"
    ),
}
#: Still taken, but to go with transformers 6.
DEPRECATED = {
    "gradient_checkpointing": "activation_checkpointing={}",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs={}",
}
#: What a trainer itself no longer takes, in transformers 5 or TRL 1.
MOVED_FROM_TRAINER = {
    "tokenizer": "processing_class=tokenizer",
    "max_seq_length": "move it to SFTConfig(max_length={})",
    "packing": "move it to SFTConfig(packing={})",
    "dataset_text_field": "move it to SFTConfig(dataset_text_field={})",
    "dataset_num_proc": "move it to SFTConfig(dataset_num_proc={})",
}


def instead(text: str, value) -> str:
    """What to do, from a text of the tables above; the new argument gets the old value."""
    # As TOML and the command line have them; any other value stands as Python prints it.
    if value is None or isinstance(value, (bool, dict)):
        value = shown(value)
    written = text.format(value)
    first_word = written.split(" ")[0]
    if "=" in first_word:
        return f"set {written}"
    return written


def training_argument_names() -> frozenset[str]:
    """The arguments that the installed TrainingArguments and Seq2SeqTrainingArguments take."""
    names = set()
    for class_name in TRANSFORMERS_ARGUMENTS:
        for node in _classes()[class_name].body:
            # A field of a dataclass is an assignment with a type: `bf16: bool = field(…)`.
            if isinstance(node, ast.AnnAssign):
                names.add(node.target.id)
    return frozenset(names)


def optimizer_names() -> frozenset[str]:
    """What the installed transformers takes for `optim`."""
    members = [node for node in _classes()["OptimizerNames"].body if isinstance(node, ast.Assign)]
    return frozenset(member.value.value for member in members)


@cache
def _classes() -> dict[str, ast.ClassDef]:
    """The classes of transformers' training arguments by name, as syntax trees."""
    # From their source, because importing them would take seconds.
    package = Path(importlib.util.find_spec("transformers").origin).parent
    classes = {}
    for file in ("training_args.py", "training_args_seq2seq.py"):
        source = (package / file).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
    return classes
