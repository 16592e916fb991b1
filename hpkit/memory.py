"""Bytes: what the live optimizer holds, tensor by tensor, and the most memory the process has used."""

import sys


def optimizer_state_bytes(optimizer) -> dict[str, dict[str, int]]:
    """What the optimizer's state really holds: `{"uint8": {"tensors": 58, "bytes": 3542016}, …}`.

    Each storage counts once, however often it is shared (bitsandbytes' code books are). Python numbers do not count.
    """
    import torch

    seen, result = set(), {}
    for state in optimizer.state.values():
        for tensor in state.values():
            if not isinstance(tensor, torch.Tensor) or tensor.data_ptr() in seen:
                continue
            seen.add(tensor.data_ptr())
            entry = result.setdefault(str(tensor.dtype).removeprefix("torch."), {"tensors": 0, "bytes": 0})
            entry["tensors"] += 1
            entry["bytes"] += tensor.numel() * tensor.element_size()
    return result


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: on `cuda` what torch allocated there, elsewhere the process's resident set."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes
