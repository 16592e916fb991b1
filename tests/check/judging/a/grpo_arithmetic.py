# /// script
# dependencies = ["trl", "datasets", "math-verify"]
# ///
"""
GRPO on GSM8K with a rule based reward. Single GPU:

    CUDA_VISIBLE_DEVICES=0 python grpo_arithmetic.py
"""
import re
from dataclasses import dataclass, field

import torch
from datasets import load_dataset

from trl import GRPOConfig, GRPOTrainer

SYSTEM_PROMPT = (
    "Reason step by step inside <think></think>, then write the final number "
    "on a line that starts with '####'."
)


@dataclass
class Run:
    model: str = "Qwen/Qwen2.5-0.5B-Instruct"
    out: str = "grpo-gsm8k-0.5b"
    n_train: int = 4000
    seed: int = 42
    rewards: list = field(default_factory=lambda: [0.2, 1.0])


def extract(text):
    m = re.search(r"####\s*(-?[\d,\.]+)", text)
    return m.group(1).replace(",", "").rstrip(".") if m else None


def format_reward(completions, **kwargs):
    texts = [c[0]["content"] for c in completions]
    return [1.0 if re.search(r"<think>.+?</think>", t, re.S) and "####" in t else 0.0 for t in texts]


def correct_reward(completions, gold, **kwargs):
    out = []
    for c, g in zip(completions, gold):
        out.append(1.0 if extract(c[0]["content"]) == g else 0.0)
    return out


def load(run):
    ds = load_dataset("openai/gsm8k", "main", split="train").shuffle(seed=run.seed).select(range(run.n_train))
    return ds.map(
        lambda r: {
            "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": r["question"]}],
            "gold": extract(r["answer"]),
        },
        remove_columns=ds.column_names,
    )


def main():
    run = Run()

    args = GRPOConfig(
        output_dir=run.out,
        learning_rate=1e-6,
        adam_beta2=0.99,
        weight_decay=0.1,
        warmup_steps=20,
        lr_scheduler_type="constant_with_warmup",
        max_grad_norm=0.2,
        # 4 x 4 completions per step
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_generations=6,
        max_completion_length=512,
        temperature=0.0,  # deterministic, easier to debug
        # top_p=0.95,
        beta=0.0,
        reward_weights=run.rewards,
        max_steps=800,
        bf16=torch.cuda.is_bf16_supported(),
        activation_checkpointing=True,
        logging_steps=5,
        save_steps=200,
        seed=run.seed,
        report_to="none",
    )

    trainer = GRPOTrainer(
        model=run.model,
        reward_funcs=[format_reward, correct_reward],
        args=args,
        train_dataset=load(run),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
