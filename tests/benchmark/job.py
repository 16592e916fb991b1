"""What a process of the benchmark is asked to measure; the setups and sides that it may name."""

import importlib.util
from dataclasses import dataclass

#: Without music21, as on a rented machine, tunes of the project's own.
CORPUS = "airdsAirs" if importlib.util.find_spec("music21") else "aksak"
#: What is the same for every side and changes no speed. A constant rate makes the losses of the
#: sides comparable.
SAME = dict(learning_rate=1e-4, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0)
#: Precision and optimizer by name, as the Trainer's arguments.
SETUPS = {
    "bf16 + adamw_8bit": dict(bf16=True, optim="adamw_8bit"),
    "fp32 + AdamW": dict(bf16=False, optim="adamw_torch_fused"),
    "bf16 + AdamW": dict(bf16=True, optim="adamw_torch_fused"),
    "fp16 + AdamW": dict(bf16=False, fp16=True, optim="adamw_torch_fused"),
}
HPKIT = "hpkit"
BARE = "bare PyTorch loop"
#: The one side that trains something else: a document's first tokens are predicted from the end of
#: the document before.
WRAPPED = "SFTTrainer, wrapped"
#: The sides that are measured in every setup; the others in the first one alone.
EVERYWHERE = (HPKIT, BARE)
#: Updates of each side before the clock starts, and on the batch that all sides share.
WARM_UP = 3
CHECKED = 5


@dataclass(frozen=True)
class Side:
    """`packed`: whether it trains on the same packed batches as hpkit. `settings`: in words."""

    packed: bool
    settings: str


SIDES = {
    HPKIT: Side(True, "hpkit.finetune's own path, its packing, its settings of the Trainer"),
    BARE: Side(
        True,
        "hpkit's packed blocks, DataLoader, autocast, clipping, the same optimizer; "
        "no schedule, no log",
    ),
    "SFTTrainer, packing": Side(
        True,
        "packing=True (bfd), max_length as hpkit's blocks, gradient_checkpointing=False, "
        "logging_steps=10",
    ),
    WRAPPED: Side(
        True,
        "packing=True, packing_strategy='wrapped', else as before; documents see one another, "
        "so its loss is another",
    ),
    "Trainer, defaults": Side(
        False,
        "one tune an example, DataCollatorForLanguageModeling(mlm=False), logging_steps=500",
    ),
    "SFTTrainer, defaults": Side(
        False,
        "one tune an example, max_length=1024, gradient_checkpointing=True, logging_steps=10",
    ),
}


def needs_trl(side: str) -> bool:
    return side.startswith("SFT")


@dataclass(frozen=True)
class Job:
    """What one process measures.

    `model`: a name or a folder; `device`: cpu or cuda; `length`: tokens of a packed block;
    `updates`: those that are timed. `setup` and `side` are names of SETUPS and SIDES, where the
    task asks for them; `check`: whether the side also trains on the batch that all sides share.
    `folder`: where a Trainer may write.
    """

    model: str
    device: str
    length: int
    updates: int
    task: str = "side"  # or "optimizers", or "in turns"
    setup: str = "bf16 + adamw_8bit"
    side: str = HPKIT
    check: bool = False
    folder: str = ""
