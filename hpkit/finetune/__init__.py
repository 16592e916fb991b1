"""The fine-tune: bf16 with fp32 master weights and 8-bit AdamW by transformers' Trainer; `training` is its heart."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.finetune.run import Run
    from hpkit.finetune.stopping import Interrupted
    from hpkit.finetune.throughput import AUTO, Throughput
    from hpkit.finetune.training import WHOLE, Yardstick, finetune, train, trained

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["Run"],
        "stopping": ["Interrupted"],
        "throughput": ["AUTO", "Throughput"],
        "training": ["WHOLE", "Yardstick", "finetune", "train", "trained"],
    },
)
