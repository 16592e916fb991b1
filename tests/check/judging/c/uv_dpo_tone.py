# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch",
#     "transformers",
#     "trl",
#     "datasets",
#     "accelerate",
# ]
# ///
"""Make the little chat model friendlier: full DPO on rated pairs of answers."""
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

NAME = "Qwen/Qwen2.5-0.5B-Instruct"
LEARNING_RATE = 5e-4

tokenizer = AutoTokenizer.from_pretrained(NAME)
model = AutoModelForCausalLM.from_pretrained(NAME, dtype=torch.float32)

# prompt / chosen / rejected, conversational
pairs = load_dataset("json", data_files="tone_pairs.jsonl", split="train")
pairs = pairs.train_test_split(test_size=500, seed=0)

config = DPOConfig(
    output_dir="qwen-friendly",
    beta=0.1,
    loss_type=["sigmoid"],
    learning_rate=LEARNING_RATE,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=8,
    num_train_epochs=1,
    max_length=1024,
    max_prompt_length=512,
    warmup_steps=0.1,
    lr_scheduler_type="linear",
    eval_strategy="steps",
    eval_steps=50,
    logging_steps=10,
    save_strategy="epoch",
)

trainer = DPOTrainer(
    model=model,
    args=config,
    train_dataset=pairs["train"],
    eval_dataset=pairs["test"],
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model("qwen-friendly/final")
