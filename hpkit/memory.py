"""Bytes: what the live optimizer holds, tensor by tensor, and the most memory the process has used."""

import sys


def optimizer_state_bytes(state: dict) -> dict[str, dict[str, int]]:
    """What an optimizer's `state` holds: `{"uint8": {"tensors": 58, "bytes": 3542016}, …}`.

    Takes the live `optimizer.state` or the one in a checkpoint. Each storage counts once, however often it is shared
    (bitsandbytes' code books are). Python numbers do not count.
    """
    import torch

    seen, result, left = set(), {}, [state]
    while left:
        for value in left.pop().values():
            if isinstance(value, dict):  # a parameter's state, or what bitsandbytes packs together when it saves
                left.append(value)
            elif isinstance(value, torch.Tensor) and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                entry = result.setdefault(str(value.dtype).removeprefix("torch."), {"tensors": 0, "bytes": 0})
                entry["tensors"] += 1
                entry["bytes"] += value.numel() * value.element_size()
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
