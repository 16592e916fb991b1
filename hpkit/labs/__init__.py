"""What one notebook each measures: formats, quantization, gradients, lost updates and others."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.labs import (
        blockwise,
        dtypes,
        formats,
        gradients,
        lost_updates,
        lr_finder,
        memorisation,
        search,
    )

_NAMES = {
    "blockwise": "averages code_book harm quantize saving state_table with_outlier",
    "dtypes": "live_types types_table",
    "formats": "FORMATS matmul_in_parts rounding running_sums split",
    "gradients": "apart first_log gradient mean_loss noise_scale padded padded_share "
    "predicted_tokens saved_activation_bytes stacked tokens_per_second",
    "lost_updates": "RULES Weights walk",
    "lr_finder": "range_test suggested_rate",
    "memorisation": "recite",
    "search": "search_learning_rate",
}

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={module: names.split() for module, names in _NAMES.items()}
)
