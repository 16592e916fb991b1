# Supervised fine-tuning with LoRA on databricks-dolly, TRL.
#
#   accelerate launch sft_lora_dolly.py
#
# One 24 GB card is enough: bf16 base model, adapters on all linear layers.
import os

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

MODEL = os.environ.get("BASE_MODEL", "Qwen/Qwen2.5-1.5B-Instruct")
OUT = "qwen2.5-1.5b-dolly"
SEED = 17
KEEP = {"closed_qa", "open_qa", "summarization", "information_extraction"}


def to_prompt_completion(row):
    question = row["instruction"].strip()
    if row["context"]:
        question = f"{question}\n\n{row['context'].strip()}"
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": row["response"].strip()}],
    }


def get_data():
    ds = load_dataset("databricks/databricks-dolly-15k", split="train")
    ds = ds.filter(lambda r: r["category"] in KEEP and len(r["response"]) > 20)
    ds = ds.map(to_prompt_completion, remove_columns=ds.column_names)
    return ds.train_test_split(test_size=300, seed=SEED)


def main():
    data = get_data()
    print(data)

    peft_config = LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.05,
        bias="none",
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )

    # ~7k rows / 32 = a bit more than 200 steps per epoch
    args = SFTConfig(
        output_dir=OUT,
        model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "sdpa"},
        num_train_epochs=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=8,
        activation_checkpointing=True,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        # completion_only_loss is on by itself for prompt/completion data
        max_length=1024,
        # packing=True,
        bf16=True,
        logging_steps=10,
        eval_strategy="steps",
        eval_steps=100,
        save_strategy="steps",
        save_steps=100,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        seed=SEED,
        report_to="none",
    )

    trainer = SFTTrainer(
        model=MODEL,
        args=args,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        peft_config=peft_config,
    )
    trainer.model.print_trainable_parameters()
    trainer.train()
    trainer.save_model(f"{OUT}/final")


if __name__ == "__main__":
    main()
