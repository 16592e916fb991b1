"""
Train a scalar reward model.

Full training:
python reward_helpfulness.py \
    --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \
    --dataset_name trl-lib/ultrafeedback_binarized \
    --output_dir qwen2.5-0.5b-reward

LoRA:
python reward_helpfulness.py \
    --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \
    --dataset_name trl-lib/ultrafeedback_binarized \
    --output_dir qwen2.5-0.5b-reward-lora \
    --learning_rate 1.0e-4 \
    --use_peft --lora_task_type SEQ_CLS --lora_r 32 --lora_alpha 16
"""
import warnings
from dataclasses import dataclass, field

from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trl import ModelConfig, RewardConfig, RewardTrainer, ScriptArguments, TrlParser, get_peft_config


@dataclass
class HelpfulnessConfig(RewardConfig):
    """RewardConfig with the values that we use in the house."""

    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "One pass is enough for reward models."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Pairs per device."})
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Accumulate."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Share of the run."})
    center_rewards_coefficient: float | None = field(default=0.01, metadata={"help": "Mean-zero rewards."})
    max_length: int | None = field(default=1536, metadata={"help": "Longer pairs are dropped."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate."})
    eval_steps: float | None = field(default=200, metadata={"help": "Every n steps."})
    activation_checkpointing: bool | None = field(default=True, metadata={"help": "Save memory."})


def build_model(model_args):
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_args.model_name_or_path,
        num_labels=1,
        revision=model_args.model_revision,
        attn_implementation=model_args.attn_implementation,
        dtype=model_args.dtype or "float32",
    )
    # right padding and the id of the pad token: the score is read at the last real token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, HelpfulnessConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config()

    model, tokenizer = build_model(model_args)
    if model_args.use_peft and model_args.lora_task_type != "SEQ_CLS":
        warnings.warn("Please pass --lora_task_type SEQ_CLS, otherwise the score head is lost when saving.")

    dataset = load_dataset(script_args.dataset_name, name=script_args.dataset_config)
    for name in dataset:
        print(f"{name:>8}: {len(dataset[name]):,} pairs")

    trainer = RewardTrainer(
        model=model,
        processing_class=tokenizer,
        args=training_args,
        train_dataset=dataset[script_args.dataset_train_split],
        eval_dataset=dataset[script_args.dataset_test_split] if training_args.eval_strategy != "no" else None,
        peft_config=get_peft_config(model_args),
    )
    trainer.train()

    trainer.save_model(training_args.output_dir)
    if training_args.eval_strategy != "no":
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=script_args.dataset_name)
