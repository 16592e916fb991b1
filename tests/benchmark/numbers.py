"""What a device makes of number formats: how fast it multiplies, what overflows, what it repeats.

Nothing here asks for more than torch and transformers.
"""

import statistics
import time

from benchmark.loop import synchronize

FORMATS = ("float32", "bfloat16", "float16")
#: What is multiplied: its name, the format of the numbers, and torch's precision for fp32, which
#: takes tensor cores where it is "high".
PRODUCTS = (
    ("float32", "float32", "highest"),
    ("tf32", "float32", "high"),
    ("bfloat16", "bfloat16", "highest"),
    ("float16", "float16", "highest"),
)
#: How often a multiplication is timed, after once that is not.
TIMES = 10


def multiplications(device: str, sizes: tuple[int, ...]) -> list[dict]:
    """Seconds and TFLOP/s of square products in each format; fp32 without tensor cores and with.

    A product of two n x n matrices takes 2 n^3 operations.
    """
    import torch

    found = []
    for size in sizes:
        for name, dtype, precision in PRODUCTS:
            torch.set_float32_matmul_precision(precision)
            one = torch.randn(size, size, device=device).to(getattr(torch, dtype))
            other = torch.randn_like(one)
            seconds = []
            for _ in range(TIMES + 1):
                synchronize(device)
                began = time.perf_counter()
                one @ other
                synchronize(device)
                seconds.append(time.perf_counter() - began)
            median = statistics.median(seconds[1:])
            found.append(
                {
                    "size": size,
                    "format": name,
                    "seconds": median,
                    "tflops": 2 * size**3 / median / 1e12,
                }
            )
    torch.set_float32_matmul_precision("highest")
    return found


def overflows(model, tokens, device: str, factors: tuple[int, ...]) -> list[dict]:
    """What becomes of activations under autocast, when the inputs of every MLP are made larger.

    `tokens`: a batch of token ids. For each factor and format: the largest activation that the MLPs
    give before their output layer, in absolute value, how many are no finite number, and the loss.
    Large language models have single activations in the thousands; in fp16 nothing exceeds 65,504.
    """
    import torch

    batch = tokens.to(device)
    model = model.to(device).eval()
    found = []
    for factor in factors:
        for name in FORMATS:
            largest = []
            lost = []

            def enlarge(module, arguments, factor=factor):
                return (arguments[0] * factor, *arguments[1:])

            def look(module, arguments, largest=largest, lost=lost):
                values = arguments[0].detach().float()
                finite = values.isfinite()
                lost.append(int((~finite).sum()))
                largest.append(float(values[finite].abs().max()) if finite.any() else float("inf"))

            hooks = []
            for layer in model.model.layers:
                hooks.append(layer.mlp.register_forward_pre_hook(enlarge))
                hooks.append(layer.mlp.down_proj.register_forward_pre_hook(look))
            half = None if name == "float32" else getattr(torch, name)
            with torch.no_grad(), torch.autocast(device, half, enabled=half is not None):
                loss = model(input_ids=batch, labels=batch).loss
            for hook in hooks:
                hook.remove()
            found.append(
                {
                    "factor": factor,
                    "format": name,
                    "largest": max(largest),
                    "not_finite": sum(lost),
                    "loss": float(loss),
                }
            )
    return found


def repetitions(make_model, blocks, device: str, updates: int) -> list[dict]:
    """The same few updates twice, as torch does them and with its deterministic algorithms.

    `make_model` gives a model with the same weights each time; `blocks` a tensor of token ids, a
    row a block. For both ways: whether the losses and the weights of the two runs are equal to the
    last bit, and the seconds of an update.
    """
    import torch

    found = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        runs = [_few_updates(make_model(), blocks, device, updates) for _ in range(2)]
        (losses, weights, seconds), (losses_again, weights_again, seconds_again) = runs
        found.append(
            {
                "deterministic": deterministic,
                "equal_losses": losses == losses_again,
                "equal_weights": all(map(torch.equal, weights, weights_again)),
                "update_seconds": min(seconds, seconds_again),
            }
        )
    torch.use_deterministic_algorithms(False)
    return found


def _few_updates(model, blocks, device: str, updates: int) -> tuple[list, list, float]:
    """(losses, weights, seconds of an update) of a bare loop in bf16 with fused AdamW."""
    import torch

    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    losses = []
    seconds = []
    for number in range(updates):
        batch = blocks[number % len(blocks)].to(device)
        synchronize(device)
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
        losses.append(float(loss))
    return losses, [weight.detach().cpu() for weight in model.parameters()], min(seconds)
