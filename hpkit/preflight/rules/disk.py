"""The rule about the disk: what the checkpoints of a run take, and what is free."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from hpkit.capability import MACHINES
from hpkit.errors import BadInput
from hpkit.formatting import shown_bytes
from hpkit.memory import checkpoint_bytes
from hpkit.preflight.plan import WEIGHT_FORMATS, Plan
from hpkit.preflight.register import Finding, rule

MANY_CHECKPOINTS = 10


@rule(
    "disk-filled",
    "counts",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", max_steps=3000, save_steps=100)
""",
)
def disk_filled(plan: Plan) -> Iterator[Finding]:
    """Many checkpoints stay, or more than the disk has room for.

    Each holds the weights and, for resuming, the optimizer's states, which are twice as large with
    AdamW. save_total_limit deletes the older ones as new ones are written. An adapter's are small:
    of those nothing is said while they fit.
    """
    kept = len(plan.counts.checkpoints)
    size = _checkpoint_size(plan)
    free = _free_where_it_writes(plan)
    total = kept * size if size else None
    over = bool(total and free and total > free)
    if not over and (kept <= MANY_CHECKPOINTS or _may_stay(plan)):
        return
    message = f"{kept} checkpoints stay on disk"
    if total:
        message += f", {shown_bytes(size)} each: {shown_bytes(total)}"
    changes = {"save_total_limit": 2}
    advice = ""
    if over:
        message += f"; {shown_bytes(free)} are free"
        # The third is written before the first goes.
        if 3 * size >= free:
            changes = {"save_strategy": "no"}
            advice = "and find room"
    yield Finding(
        severity="error" if over else "warning",
        argument="save_total_limit",
        message=message,
        changes=changes,
        advice=advice,
        evidence={"checkpoints": kept, "bytes": total},
    )


def _may_stay(plan: Plan) -> bool:
    """Whether many checkpoints are no oversight, or take no room."""
    around = plan.written.around
    # Whoever writes a limit, or None for none, has thought of how many stay.
    is_chosen = not plan.live and "save_total_limit" in plan.given
    # Those of an adapter are small, and one that is loaded by its number has to stay.
    return is_chosen or around.adapter is not None or around.named_checkpoint is not None


def _checkpoint_size(plan: Plan) -> int | None:
    if plan.model is None or plan.dtype not in WEIGHT_FORMATS:
        return None
    try:
        return checkpoint_bytes(plan.model.source, plan.recipe.replace(dtype=plan.dtype))
    except BadInput:  # an optimizer whose states nobody predicts
        return None


def _free_where_it_writes(plan: Plan) -> int | None:
    """Bytes free on the output folder's disk; None where the run is not to be on this machine."""
    if plan.machine in MACHINES.values():
        return None
    out = Path(str(plan.given.get("output_dir") or ".")).absolute()
    # The Trainer makes the folder later; until then its disk is that of the nearest parent.
    for folder in (out, *out.parents):
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return None
