"""What preflight's tests share: small models, real trainings, and what a finding's reader does."""

from dataclasses import dataclass, field

import torch
import transformers
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from hpkit.capability import forget_32bit_overrides
from hpkit.hyperparameters import CARDS
from hpkit.preflight import preflight
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.recipe import Recipe

#: The shape of the smallest models that still have every part.
WIDTH = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=64
)
#: A run of 375 updates on 1,000 examples that no rule complains of.
LONG = Recipe(num_train_epochs=3.0, logging_steps=10, warmup_steps=50, learning_rate=1e-4)


def llama(head=transformers.LlamaForCausalLM, **more):
    torch.manual_seed(0)
    return head(
        transformers.LlamaConfig(
            **WIDTH, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, **more
        )
    )


def bert(head, **more):
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    return head(transformers.BertConfig(**WIDTH, max_position_embeddings=64, **quiet, **more))


class Rows(Dataset):
    """Random tokens; labels are the tokens, or one class a row."""

    def __init__(self, count: int, length: int = 16, classes: int = 0):
        random = torch.Generator().manual_seed(1)
        self.rows = []
        for _ in range(count):
            tokens = torch.randint(3, 64, (length,), generator=random)
            labels = tokens
            if classes:
                labels = tokens.sum() % classes
            self.rows.append({"input_ids": tokens, "labels": labels})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def found(run, *args, **known) -> dict:
    """preflight's findings by the name of their rule."""
    return {finding.rule: finding for finding in preflight(run, *args, **known)}


def mended_by_all(run, findings):
    """`run` with the changes of all findings made, one after the other."""
    for finding in findings:
        run = mended(run, finding)
    return run


def mended(run, finding):
    """`run` with the finding's changes made: what a reader would do."""
    if isinstance(run, Recipe):
        values = {}
        for name, value in finding.changes.items():
            values[name] = CARDS[name].default if value is LEAVE_OUT else value
        return run.replace(**values)
    kept = {name: value for name, value in run.items() if name not in finding.changes}
    made = {name: value for name, value in finding.changes.items() if value is not LEAVE_OUT}
    return kept | made


def train(folder, model, rows, *callbacks, **arguments):
    """A finished real Trainer on the CPU."""
    usual = dict(
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-2,
        seed=0,
        save_strategy="no",
    )
    # Left over from an earlier model, bitsandbytes' list would keep other weights at 32 bits.
    forget_32bit_overrides()
    run = TrainingArguments(output_dir=str(folder), **usual | arguments)
    trainer = Trainer(
        model=model, args=run, train_dataset=rows, eval_dataset=rows, callbacks=list(callbacks)
    )
    trainer.train()
    return trainer


@dataclass(frozen=True)
class Case:
    """A run that a rule is about and one at which it stays silent, each with what is known of it.

    `by_hand`: the change is not one of values. Code is to be moved, data or hardware to be found,
    or an argument to be left out.
    """

    about: object
    silent: object
    known: dict = field(default_factory=dict)
    known_of_silent: dict = field(default_factory=dict)
    by_hand: bool = False
