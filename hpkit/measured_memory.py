"""Bytes of a live training: its optimizer's states, what autograd keeps, the most memory used.

hpkit.memory predicts the same from a model's shapes alone.
"""

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


def optimizer_state_bytes(state: dict) -> dict[str, dict[str, int]]:
    """What an optimizer's `state` holds: `{"uint8": {"tensors": 58, "bytes": 3542016}, …}`.

    Takes the live `optimizer.state` or the one in a checkpoint. Each storage counts once, however
    often it is shared (bitsandbytes' code books are). Python numbers do not count.
    """
    import torch

    seen = set()
    result = {}
    left = [state]
    while left:
        for value in left.pop().values():
            # A parameter's own state, or what bitsandbytes packs together when it saves.
            if isinstance(value, dict):
                left.append(value)
            elif isinstance(value, torch.Tensor) and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                dtype = str(value.dtype).removeprefix("torch.")
                entry = result.setdefault(dtype, {"tensors": 0, "bytes": 0})
                entry["tensors"] += 1
                entry["bytes"] += value.numel() * value.element_size()
    return result


class SavedStorage(NamedTuple):
    """One storage that autograd keeps until the backward pass, and torch's dtype of its numbers."""

    storage: object
    dtype: object

    @property
    def bytes(self) -> int:
        """The size of the whole storage, of which the saved tensor may be a part."""
        return self.storage.nbytes()


@contextmanager
def saved_for_backward(model):
    """Watch what autograd keeps from a forward pass in the `with` block until its backward pass.

    Gives a dictionary that fills as the pass goes, of a SavedStorage each: every storage once,
    however often it is saved, and the weights of `model` not at all. Fake tensors may pass, too.
    """
    import torch

    # Two tensors of one storage differ as Python objects, and a fake one has no data_ptr:
    # the address of torch's own storage object serves for both.
    # They are held, so that no later storage gets the same address: bitsandbytes, for one, gives a
    # bias another storage in its first pass.
    weights = {}
    for weight in model.parameters():
        storage = weight.untyped_storage()
        weights[storage._cdata] = storage
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = SavedStorage(storage, tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: torch's on `cuda`, elsewhere the process's resident set."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":
        # getrusage starts with the peak of the process that started this one, so that a large
        # notebook would be counted in. Some sandboxes leave the line out.
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if peak:
            return int(peak[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return peak
    return peak * 1024  # Linux counts kilobytes


def resident_memory_bytes() -> int:
    """The memory that this process holds now, on a CPU: its resident set."""
    import psutil

    return psutil.Process().memory_info().rss


def reset_peak_memory(device: str) -> None:
    """Let `peak_memory_bytes` begin anew, for a process that trains several times.

    Apple and Windows have no such thing.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        try:
            # proc(5): 5 sets VmHWM to what is used now. Some sandboxes keep the file to themselves.
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass
