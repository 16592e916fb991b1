"""What became of arguments that transformers and TRL no longer take.

Adding one touches this table alone: what no version takes, `hpkit.preflight.libraries` knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hpkit.preflight.forms import LEAVE_OUT


@dataclass(frozen=True)
class Successor:
    """What to write in place of an argument.

    `argument`: the new name, None where nothing takes its place. `value`: what the new one gets,
    with KEPT for the old value. `words`: why, or what else is to be done.
    """

    argument: str | None = None
    value: object = None
    words: str = ""

    def changes(self, old: str, value) -> dict:
        """The changes that mend `old`. A switch that was off is off by default today."""
        if self.argument is None or value is None or value is False:
            return {old: LEAVE_OUT}
        return {old: LEAVE_OUT, self.argument: _with_value(self.value, value)}

    @property
    def is_a_new_name(self) -> bool:
        """Whether it is the same argument, with the same values, under another name."""
        return self.argument is not None and self.value == KEPT


#: In a Successor's value: what the old argument had.
KEPT = "the value of before"


def _with_value(pattern, value):
    if pattern == KEPT:
        return value
    if isinstance(pattern, dict):
        return {key: _with_value(part, value) for key, part in pattern.items()}
    return pattern


def _renamed(argument: str, words: str = "") -> Successor:
    return Successor(argument, KEPT, words)


#: Of transformers 4: the fields of 4.30 to 5.14 that 5.23 lacks. The first seven stand in most old
#: scripts.
SUCCESSORS = {
    "warmup_ratio": _renamed("warmup_steps", "below 1 it is a share of the run"),
    "evaluation_strategy": _renamed("eval_strategy"),
    "no_cuda": _renamed("use_cpu"),
    "logging_dir": Successor(
        words="the environment variable TENSORBOARD_LOGGING_DIR says where the logs go"
    ),
    "overwrite_output_dir": Successor(
        words="the folder is written to, and only trainer.train(resume_from_checkpoint=True) "
        "resumes"
    ),
    "save_safetensors": Successor(words="weights are always saved as safetensors"),
    "group_by_length": Successor("train_sampling_strategy", "group_by_length"),
    "per_gpu_train_batch_size": _renamed("per_device_train_batch_size"),
    "per_gpu_eval_batch_size": _renamed("per_device_eval_batch_size"),
    "adafactor": Successor("optim", "adafactor"),
    "half_precision_backend": Successor(words="torch's autocast is the only one left"),
    "fp16_backend": Successor(words="torch's autocast is the only one left"),
    "fp16_opt_level": Successor(words="it belonged to apex"),
    "use_mps_device": Successor(words="Apple's GPU is used where there is one"),
    "use_ipex": Successor(words="torch holds what it did"),
    "torchdynamo": Successor("torch_compile", True),
    "include_tokens_per_second": Successor("include_num_input_tokens_seen", "all"),
    "include_inputs_for_metrics": Successor("include_for_metrics", ["inputs"]),
    "push_to_hub_token": _renamed("hub_token"),
    "push_to_hub_model_id": _renamed("hub_model_id"),
    "push_to_hub_organization": Successor(words="hub_model_id takes organization/name"),
    "dispatch_batches": Successor("accelerator_config", {"dispatch_batches": KEPT}),
    "split_batches": Successor("accelerator_config", {"split_batches": KEPT}),
    "fsdp_min_num_params": Successor("fsdp_config", {"min_num_params": KEPT}),
    "fsdp_transformer_layer_cls_to_wrap": Successor(
        "fsdp_config", {"transformer_layer_cls_to_wrap": KEPT}
    ),
    "tpu_num_cores": Successor(words="the environment variable TPU_NUM_CORES says it"),
    "jit_mode_eval": Successor(words="torch_compile does what it did"),
    "ray_scope": Successor(words="the environment variable RAY_SCOPE says it"),
}
#: Of TRL's configs, and of those of Unsloth and others that follow them.
TRL_SUCCESSORS = {
    "max_seq_length": _renamed("max_length"),
    "torch_dtype": _renamed("dtype"),
    "use_liger": _renamed("use_liger_kernel"),
    "use_liger_loss": _renamed("use_liger_kernel"),
    "wandb_log_unique_prompts": _renamed("log_unique_prompts"),
    "vllm_guided_decoding_regex": _renamed("vllm_structured_outputs_regex"),
    "max_prompt_length": Successor(
        words="prompts are not cut any more; filter out what is too long"
    ),
    "max_target_length": Successor(words="max_length cuts prompt and answer together"),
    "max_completion_length": Successor(words="max_length cuts prompt and answer together"),
    "dataset_batch_size": Successor(words="the data set is mapped in batches of its own"),
    "chars_per_token": Successor(words="packing counts tokens"),
    "num_of_sequences": Successor(words="packing counts tokens"),
    "model_name_or_path": Successor(words="the trainer takes the model"),
    "rpo_alpha": Successor(words='add "sft" to loss_type, with its weight in loss_weights'),
    "generate_during_eval": Successor(words="a TrainerCallback does it"),
    "ref_model_init_kwargs": Successor(words="make the reference model, and pass it as ref_model"),
}
#: transformers' own Trainers, which never took a length.
LENGTH_IN_TRANSFORMERS = Successor(
    words="the tokenizer cuts (max_length=…, truncation=True), and in TRL it is "
    "SFTConfig(max_length=…)"
)
#: Still taken, but to go with transformers 6.
DEPRECATED = {
    "gradient_checkpointing": _renamed("activation_checkpointing"),
    "gradient_checkpointing_kwargs": _renamed("activation_checkpointing_kwargs"),
}
#: What a trainer itself no longer takes. Of another name it is the config that takes it.
TRAINER_SUCCESSORS = {
    "tokenizer": _renamed("processing_class"),
    "policy": _renamed("model"),
    "config": _renamed("args"),
    "compute_loss": _renamed("compute_loss_func"),
}
#: What older trainers of TRL took themselves, and its configs take today.
MOVED_TO_CONFIG = (
    "max_seq_length",
    "packing",
    "dataset_text_field",
    "dataset_num_proc",
    "dataset_kwargs",
    "dataset_batch_size",
    "model_init_kwargs",
    "neftune_noise_alpha",
    "num_of_sequences",
    "chars_per_token",
    "eval_packing",
    "beta",
    "label_smoothing",
    "loss_type",
    "max_length",
    "max_prompt_length",
    "max_target_length",
    "max_completion_length",
    "truncation_mode",
    "precompute_ref_log_probs",
    "generate_during_eval",
    "disable_dropout",
)
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
    "TrainingArguments",
    "Seq2SeqTrainingArguments",
    "SFTConfig",
    "DPOConfig",
    "KTOConfig",
    "ORPOConfig",
    "CPOConfig",
    "RewardConfig",
    "UnslothTrainingArguments",
)


def under_new_names(given: Mapping[str, object]) -> tuple[dict, dict[str, str]]:
    """(arguments by the names of today, {new name: the old one that is written}).

    Where a script has both names the new one counts, as it did in transformers 4.
    """
    renamed = {}
    for old, successor in (SUCCESSORS | DEPRECATED).items():
        if old in given and successor.is_a_new_name and not given.get(successor.argument):
            renamed[successor.argument] = old
    current = dict(given)
    for new, old in renamed.items():
        current[new] = given[old]
    return current, renamed
