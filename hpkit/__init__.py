"""hpkit: learn every fine-tuning hyperparameter by moving it.

`from hpkit.recipe import STARTER` and `from hpkit.finetune import finetune` are enough for a run.
"""

import logging
import os

# Before torch is imported, whose OpenMP reads this once. Its threads wait for their next work by
# spinning, 200 ms and longer, and so keep another training from the core that it waits for. Side by
# side on two cores, two trainings took 153 s each as they were and 6.5 s each with this; alone,
# up to a tenth is lost, for a thread that sleeps must be woken.
if "OMP_WAIT_POLICY" not in os.environ:  # somebody has decided
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's: rounds of the loop
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel's and LLVM's: milliseconds

# As it is imported, bitsandbytes warns that a faster kernel for 4-bit matrices on the CPU was not
# found on the hub. transformers imports it through peft, so the warning stood in the first cell of
# a notebook, and no reader of a lesson can act on it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
