"""Scripts and a notebook as people write them, and how the tests put them into files."""

import json
from pathlib import Path

# A line that ends in a backslash goes on: it is one line of the script, and the tests count lines.

PLAIN = """\
from transformers import Trainer, TrainingArguments

training_args = TrainingArguments(
    output_dir="./results", evaluation_strategy="epoch",
    learning_rate=2e-5,
    num_train_epochs=3, weight_decay=-0.01,
    lr_scheduler_kwargs={"num_cycles": 2}, label_names=["a" "b", "c"], betas=(0.9, 0.999),
    eval_steps=None, save_steps=10 * 50 + 2 ** 3 - 7 // 2 % 2, lr_end=1e-4 / 10,
    max_steps=int(8.0), adam_epsilon=float("1e-8"), push_to_hub=not True, run_name="a" + "b",
)
trainer = Trainer(model=model, args=training_args)
model.eval()
"""

UNSLOTH = """\
from trl import SFTTrainer
from transformers import TrainingArguments
from unsloth import is_bfloat16_supported

trainer = SFTTrainer(
    model = model,
    tokenizer = tokenizer,
    max_seq_length = max_seq_length,
    packing = False, # Can make training 5x faster for short sequences.
    args = TrainingArguments(
        per_device_train_batch_size = 2,
        learning_rate = 2e-4,
        fp16 = not torch.cuda.is_bf16_supported(),
        bf16 = is_bfloat16_supported(),
        optim = "adamw_8bit",
    ),
)
"""

CONSTANTS = """\
import transformers as t
from trl import SFTConfig as Config, DPOConfig
from transformers.training_args import TrainingArguments as TA
LR, EPOCHS = 1e-4, 3
BATCH: int = 8
SEED = 1
SEED = 42
BATCH *= 2
common = dict(optim="adamw_8bit", seed=SEED)
common["weight_decay"] = 0.1
common.update(warmup_steps=5)
common.update({"max_grad_norm": 0.3, "seed": 7})
common["gone"] = 1
del common["gone"]
config = {"train": {"lr": LR}, "epochs": EPOCHS}

def make(output):
    epochs = config["epochs"]
    def inner():
        lr = LR * 2
        return Config("inner", learning_rate=lr, num_train_epochs=epochs, **common)
    return inner(), t.Seq2SeqTrainingArguments(output, \
learning_rate=config["train"]["lr"], predict_with_generate=True)

a = TA("out", learning_rate=LR, per_device_train_batch_size=BATCH, **common)
b = DPOConfig(**{"beta": 0.1, "seed": SEED}, \
**{**common, "seed": 9} | {"seed": 10}) if False else None
for _ in range(2): make("x")
"""

ARGPARSE = """\
import argparse, sys
from transformers import TrainingArguments

def main():
    parser = argparse.ArgumentParser(description="fine-tune")
    parser.add_argument("--model", required=True)
    parser.add_argument("-l", "--learning-rate", "--lr", type=float, default="1e-4", help="LR")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--optim", default="adamw_8bit")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--no-shuffle", dest="shuffle", action="store_false")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--name", type=str.upper, default="x")
    args = parser.parse_args()
    args.warmup = 7
    return TrainingArguments(learning_rate=args.learning_rate, num_train_epochs=args.epochs, \
optim=args.optim, bf16=args.bf16,
        shuffle=args.shuffle, seed=args.seed, run_name=args.name, \
warmup_steps=args.warmup, model=args.model)

if __name__ == "__main__":
    main()
"""

MAIN_ARGS = """\
import argparse as ap
from transformers import TrainingArguments

def parse_args():
    parser = ap.ArgumentParser()
    group = parser.add_argument_group("training")
    group.add_argument("--lr", type=float, default=2e-5)
    group.add_argument("--flag", action=ap.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=100)
    if True:
        parser.add_argument("--wd", type=float, default=0.1)
    args, _ = parser.parse_known_args()
    args.steps = 7
    return args

def main(args):
    print(vars(args), f"{args}")
    lr = args.lr
    return TrainingArguments(learning_rate=lr, bf16=args.flag, \
max_steps=args.steps, weight_decay=args.wd)

if __name__ == "__main__":
    args = parse_args()
    main(args)
"""

CLASSES = """\
from dataclasses import dataclass, field
import transformers

class CFG:
    lr = 1e-4 * 2
    batch: int = 8
    names = ["a"]
    seed = 4
    seed = 5

@dataclass
class Data:
    epochs: int = 3
    rate: int = field(default=7)

class Inherits(CFG):
    wd = 0.1

class Acts:
    warmup = 5
    def set(self):
        self.warmup = 6

class MyTrainingArguments(transformers.TrainingArguments):
    extra: int = 1

data, acts = Data(), Acts()
acts.set()
def train():
    return transformers.TrainingArguments(eval_steps=Data.epochs, max_steps=data.epochs, \
lr=data.rate, warmup=acts.warmup, wd=Inherits.wd)
train()
b = MyTrainingArguments("out", extra=2)
"""

RUNNABLE = {
    "constants": CONSTANTS,
    "argparse": ARGPARSE,
    "main": MAIN_ARGS,
    "classes": CLASSES,
    "plain": PLAIN,
}

CELLS = [
    ("# A title",),
    "%%capture\n!pip install unsloth \\\n  trl 'x\nimport os\n%matplotlib inline\nLR = 2e-4\n",
    [
        "lr = LR\n",
        "%time x = 3\n",
        "files = !ls\n",
        "n = %sql select 'it''s\n",
        "text = '''\n",
        "%not magic\n",
        "'''\n",
        "LR?\n",
        "!nvidia-smi",
    ],
    "%%bash\npython train.py --args TrainingArguments(",
    "from transformers import TrainingArguments\n"
    "if True:\n    !ls {x}\n    %cd /tmp\ny = (7\n  % 4)\nkw = {\n 'seed': 1}",
    "lr = = 3",
    "await thing()\nargs = TrainingArguments(\n    'out', learning_rate=LR,\n"
    "    max_steps=x, logging_dir=text, eval_steps=y,\n"
    "    a=files, b=n, **kw)\n",
]


def write(folder: Path, source: str | bytes, name: str = "train.py") -> Path:
    if isinstance(source, str):
        source = source.encode("utf-8", "surrogatepass")  # damaged texts hold halves of characters
    file = folder / name
    file.write_bytes(source)
    return file


def notebook(folder: Path, *cells, **metadata) -> Path:
    """A notebook of code cells.

    A cell given as a tuple is Markdown, one given as a list keeps its list of lines.
    """
    made = []
    for cell in cells:
        if isinstance(cell, tuple):
            made.append({"cell_type": "markdown", "source": cell[0]})
        else:
            made.append({"cell_type": "code", "source": cell})
    return write(
        folder, json.dumps({"nbformat": 4, "metadata": metadata, "cells": made}), "train.ipynb"
    )
