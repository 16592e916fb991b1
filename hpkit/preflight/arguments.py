"""Which arguments the installed transformers takes, and what became of those that it no longer takes."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

from hpkit.formatting import shown

#: Classes whose defaults are exactly transformers'. TRL's and a person's own have others for CHANGED_ELSEWHERE.
TRANSFORMERS_ARGUMENTS = ("TrainingArguments", "Seq2SeqTrainingArguments")
CHANGED_ELSEWHERE = (
    "learning_rate",
    "logging_steps",
    "bf16",
    "gradient_checkpointing",
    "activation_checkpointing",
)
#: TRL's configs under which an update takes batch x accumulation examples. GRPO and its like generate, and count otherwise.
COUNT_ALIKE = {f"{name}Config" for name in "SFT DPO KTO ORPO CPO Reward".split()} | {
    "UnslothTrainingArguments",
    *TRANSFORMERS_ARGUMENTS,
}

#: Arguments of transformers 4 that 5 no longer takes, and what to write instead; the first seven stand in most old scripts.
#: From the fields of 4.38 and 4.57 that 5.23 lacks.
SUCCESSORS = {
    "warmup_ratio": "warmup_steps={}: below 1 it is a share of the run",
    "evaluation_strategy": "eval_strategy={}",
    "no_cuda": "use_cpu={}",
    "logging_dir": "leave it out, and set the environment variable TENSORBOARD_LOGGING_DIR",
    "overwrite_output_dir": "leave it out: the folder is written to, and only trainer.train(resume_from_checkpoint=True) resumes",
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
    "max_seq_length": "leave it out: the tokenizer cuts (max_length=…, truncation=True), and in TRL it is SFTConfig(max_length=…)",
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
    """What to do, from a text of the tables above, with the old argument's value where the new one takes it."""
    written = text.format(
        shown(value) if value is None or isinstance(value, (bool, dict)) else value
    )
    return f"set {written}" if "=" in written.split(" ")[0] else written


def training_argument_names() -> frozenset[str]:
    """The arguments that the installed TrainingArguments and Seq2SeqTrainingArguments take."""
    fields = [
        node
        for name in TRANSFORMERS_ARGUMENTS
        for node in _classes()[name].body
        if isinstance(node, ast.AnnAssign)
    ]
    return frozenset(field.target.id for field in fields)


def optimizer_names() -> frozenset[str]:
    """What the installed transformers takes for `optim`."""
    return frozenset(
        node.value.value
        for node in _classes()["OptimizerNames"].body
        if isinstance(node, ast.Assign)
    )


@cache
def _classes() -> dict[str, ast.ClassDef]:
    """The classes of transformers' training arguments, from their source: importing them would take seconds."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    sources = [
        (package / file).read_text(encoding="utf-8")
        for file in ("training_args.py", "training_args_seq2seq.py")
    ]
    return {
        node.name: node
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }
