"""
Preference tuning with DPO + LoRA.

python dpo_ultrafeedback_lora.py --output_dir smollm3-dpo
"""
import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl import DPOConfig, DPOTrainer


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="HuggingFaceTB/SmolLM3-3B")
    p.add_argument("--output_dir", default="dpo-out")
    p.add_argument("--max_samples", type=int, default=20000)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    cli = parse()

    tokenizer = AutoTokenizer.from_pretrained(cli.model)
    model = AutoModelForCausalLM.from_pretrained(
        cli.model,
        dtype=torch.bfloat16,
        attn_implementation="sdpa",
    )
    model.config.use_cache = False

    train = load_dataset("trl-lib/ultrafeedback_binarized", split="train")
    train = train.shuffle(seed=cli.seed).select(range(min(cli.max_samples, len(train))))
    test = load_dataset("trl-lib/ultrafeedback_binarized", split="test")

    peft_config = LoraConfig(
        r=32,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )

    training_args = DPOConfig(
        output_dir=cli.output_dir,
        beta=0.1,
        loss_type="sigmoid",
        max_length=1536,
        max_prompt_length=768,
        # keep the reference close to the policy (TR-DPO)
        sync_ref_model=True,
        ref_model_sync_steps=200,
        ref_model_mixup_alpha=0.6,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=16,
        activation_checkpointing=True,
        num_train_epochs=1,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        bf16=True,
        eval_strategy="steps",
        eval_steps=100,
        save_steps=200,
        logging_steps=10,
        seed=cli.seed,
        # report_to="wandb",
        report_to="none",
    )

    trainer = DPOTrainer(
        model,
        args=training_args,
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_model(cli.output_dir)


if __name__ == "__main__":
    main()
