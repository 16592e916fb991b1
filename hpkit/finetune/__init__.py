"""The fine-tune: fp32 master weights, bf16 products, 8-bit AdamW; `training` is its heart."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.finetune.forecast import Forecast, dry_run
    from hpkit.finetune.pair import Pair, load_pair
    from hpkit.finetune.run import Run
    from hpkit.finetune.session import finetune
    from hpkit.finetune.stopping import Interrupted
    from hpkit.finetune.throughput import AUTO, Throughput
    from hpkit.finetune.training import train, trained
    from hpkit.finetune.yardstick import WHOLE, Yardstick

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "forecast": ["Forecast", "dry_run"],
        "pair": ["Pair", "load_pair"],
        "run": ["Run"],
        "session": ["finetune"],
        "stopping": ["Interrupted"],
        "throughput": ["AUTO", "Throughput"],
        "training": ["train", "trained"],
        "yardstick": ["WHOLE", "Yardstick"],
    },
)
