# Teach TinyLlama a small tool-call format with three new control tokens.
# Everything is trained (no LoRA), T4 is ok.
import json

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

MODEL_NAME = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
NEW_TOKENS = ["<|tool|>", "<|/tool|>", "<|result|>"]
DATA = "data/tool_calls.jsonl"

# -- tokenizer
tokenizer = AutoTokenizer.from_pretrained(MODEL_NAME)
added = tokenizer.add_special_tokens({"additional_special_tokens": NEW_TOKENS})
print(f"{added} tokens added, vocabulary is now {len(tokenizer)}")

# -- model
model = AutoModelForCausalLM.from_pretrained(
    MODEL_NAME,
    dtype=torch.float16,
    attn_implementation="sdpa",
)
model.config.use_cache = False


# -- data
def render(row):
    call = json.dumps(row["call"], ensure_ascii=False)
    answer = f"<|tool|>{call}<|/tool|><|result|>{row['result']}\n{row['answer']}"
    msgs = [
        {"role": "system", "content": "You can call tools."},
        {"role": "user", "content": row["question"]},
        {"role": "assistant", "content": answer},
    ]
    return tokenizer.apply_chat_template(msgs, tokenize=False)


with open(DATA) as f:
    rows = [json.loads(line) for line in f if line.strip()]
dataset = Dataset.from_dict({"text": [render(r) for r in rows]})
dataset = dataset.train_test_split(test_size=0.05, seed=8)

# -- training
training_args = SFTConfig(
    output_dir="tinyllama-tools",
    dataset_text_field="text",
    max_seq_length=1024,
    packing=False,
    num_train_epochs=3,
    per_device_train_batch_size=2,
    per_device_eval_batch_size=2,
    gradient_accumulation_steps=8,
    activation_checkpointing=True,
    learning_rate=2e-5,
    lr_scheduler_type="cosine",
    warmup_steps=0.05,
    fp16=True,
    optim="adamw_8bit",
    logging_steps=10,
    eval_strategy="epoch",
    save_strategy="epoch",
    save_total_limit=1,
    seed=8,
    report_to="none",
)

trainer = SFTTrainer(
    model=model,
    args=training_args,
    processing_class=tokenizer,
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
)

trainer.train()
trainer.save_model("tinyllama-tools/final")
tokenizer.save_pretrained("tinyllama-tools/final")
