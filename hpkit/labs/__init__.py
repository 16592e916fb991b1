"""What one notebook each measures: formats, quantization, gradients, lost updates and others.

Each module has a few more functions than are handed on here.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.labs.blockwise import averages, code_book, harm, quantize, saving, state_table
    from hpkit.labs.dtypes import live_types, types_table
    from hpkit.labs.formats import FORMATS, matmul_in_parts, rounding, running_sums, split
    from hpkit.labs.gradients import first_log, gradient, mean_loss, noise_scale, padded_share
    from hpkit.labs.judging import false_alarms, power
    from hpkit.labs.lost_updates import Weights, walk
    from hpkit.labs.lr_finder import range_test, suggested_rate
    from hpkit.labs.memorisation import recite
    from hpkit.labs.search import search_learning_rate

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "blockwise": ["averages", "code_book", "harm", "quantize", "saving", "state_table"],
        "dtypes": ["live_types", "types_table"],
        "formats": ["FORMATS", "matmul_in_parts", "rounding", "running_sums", "split"],
        "gradients": ["first_log", "gradient", "mean_loss", "noise_scale", "padded_share"],
        "judging": ["false_alarms", "power"],
        "lost_updates": ["Weights", "walk"],
        "lr_finder": ["range_test", "suggested_rate"],
        "memorisation": ["recite"],
        "search": ["search_learning_rate"],
    },
)
