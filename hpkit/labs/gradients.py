"""Gradients and saved activations of one update, computed now.

What batch size, accumulation and sequence length do to both.
"""

import copy
import tempfile
import time
from collections.abc import Iterable, Sequence

import torch

from hpkit.errors import BadInput
from hpkit.measured_memory import saved_for_backward

#: The label of a padded place and of a document's first token: no loss is computed there.
IGNORED = -100


def padded(
    documents: Sequence[Sequence[int]], length: int | None = None
) -> dict[str, torch.Tensor]:
    """Documents of token ids as one batch, one a row: cut to `length` tokens, then padded to it.

    None pads to the longest. Tensors of batch x length: `input_ids`, `attention_mask` (1 for a
    token, 0 for padding) and `labels`, which ignore padding and every document's first token.
    Padding comes on the right and has the id 0. Raises BadInput for no document.
    """
    if not documents or not all(documents):
        raise BadInput("padded: expected one document or more, none of them empty")
    length = length or max(map(len, documents))
    tokens = torch.zeros(len(documents), length, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, document in enumerate(documents):
        tokens[row, : len(document)] = torch.tensor(document[:length])
        mask[row, : len(document)] = 1
    labels = tokens.masked_fill(mask == 0, IGNORED)
    labels[:, 0] = IGNORED
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def stacked(blocks: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Packed blocks of one length (`hpkit.corpus.pack`) as one batch."""
    return {name: torch.tensor([block[name] for block in blocks]) for name in blocks[0]}


def predicted_tokens(batch: dict[str, torch.Tensor]) -> int:
    """How many tokens of a batch a loss is computed for."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def gradient(
    model, micro_batches: Sequence[dict[str, torch.Tensor]], mean_of_means: bool = False
) -> torch.Tensor:
    """The gradient that one update sees after these micro-batches.

    That of all parameters, as one vector in their precision. Each micro-batch's loss is divided by
    the predicted tokens of all of them together, as transformers' Trainer does for causal models
    since 2024; with `mean_of_means` by its own, and the results are averaged, as it did before.
    """
    model.train()
    model.zero_grad()
    items = sum(map(predicted_tokens, micro_batches))
    for batch in micro_batches:
        if mean_of_means:
            items = predicted_tokens(batch) * len(micro_batches)
        # transformers' own loss divides the sum over tokens by num_items_in_batch.
        model(**batch, use_cache=False, num_items_in_batch=items).loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    flat = torch.cat([part.flatten() for part in gradients])
    model.zero_grad()
    return flat


def apart(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """(relative error, cosine) of one gradient against another.

    The error is the length of their difference by the length of the other.
    """
    one = one.double()
    other = other.double()
    error = torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    return error.item(), cosine.item()


def saved_activation_bytes(model, batch: dict[str, torch.Tensor], bf16: bool = False) -> int:
    """Bytes that autograd keeps from a forward pass of `batch` until the backward pass, measured.

    Weights do not count. Each storage counts once, however often it is saved. `bf16` multiplies
    under autocast.
    """
    model.train()
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)
    with saved_for_backward(model) as saved, autocast:
        model(**batch, use_cache=False)
    return sum(kept.bytes for kept in saved.values())


def noise_scale(gradients: Iterable[torch.Tensor]) -> float:
    """The simple noise scale, in examples.

    The gradients' variance, summed over all parameters, by the squared mean gradient. `gradients`:
    one for each of two examples or more. Both parts are estimated without bias, so with few
    examples it can come out negative. McCandlish et al. 2018, An Empirical Model of Large-Batch
    Training, section 2.2. Raises BadInput.
    """
    total = 0.0
    squared_norms = 0.0
    count = 0
    # Summed up one by one: the gradients of many examples would not fit into memory together.
    for each in gradients:
        total = total + each.double()
        squared_norms += each.double().square().sum().item()
        count += 1
    if count < 2:
        raise BadInput(f"noise_scale: expected the gradients of two examples or more, got {count}")
    of_one = squared_norms / count
    of_mean = (total / count).square().sum().item()
    # Noise adds variance to the first and a count-th of it to the second: hence the two estimates.
    signal = (count * of_mean - of_one) / (count - 1)
    return (of_one - of_mean) * count / (count - 1) / signal


def tokens_per_second(model, batch: dict[str, torch.Tensor], seconds: float = 0.5) -> float:
    """Tokens of `batch`, padding included, that one core trains on in a second of its time.

    Forward, backward and AdamW's step; the best of as many updates as take `seconds`, two at least,
    after a first that is left out. The processor's time is counted, not the clock's, so that other
    programs disturb it less. The learning rate is 0: the model stays as it is.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    threads = torch.get_num_threads()
    # The processor's time adds up over threads, also while they wait for one another.
    torch.set_num_threads(1)
    try:
        _update_seconds(model, batch, optimizer)  # the first update makes AdamW's states
        times = []
        while len(times) < 2 or sum(times) < seconds:
            times.append(_update_seconds(model, batch, optimizer))
    finally:
        torch.set_num_threads(threads)
    return batch["input_ids"].numel() / min(times)


def _update_seconds(model, batch: dict[str, torch.Tensor], optimizer) -> float:
    start = time.process_time()
    model(**batch, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.process_time() - start


def first_log(model, rows: Sequence[dict], batch: int, accumulation: int) -> dict[str, float]:
    """What transformers' Trainer logs of one update over `rows`, in their order.

    `loss`, and `grad_norm` before clipping. The model is copied first and has no dropout; it is
    trained on the CPU in fp32.
    """
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class UnshuffledTrainer(Trainer):
        """The Trainer draws rows at random, and has no argument against it."""

        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(rows)

    # The Trainer trains the model it gets, and switches dropout on, which draws anew in each
    # micro-batch: two splits of one batch would differ by chance.
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            logging_steps=1,
            optim="adamw_torch",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = UnshuffledTrainer(model=model, args=arguments, train_dataset=list(rows))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logged = trainer.state.log_history[0]
    return {"loss": logged["loss"], "grad_norm": logged["grad_norm"]}


def mean_loss(model, blocks: Sequence[dict[str, list[int]]], at_once: int = 2048) -> float:
    """The model's loss over packed blocks, in nats per predicted token.

    Batches of about `at_once` tokens.
    """
    size = max(at_once // len(blocks[0]["input_ids"]), 1)
    total = 0.0
    count = 0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(blocks), size):
            batch = stacked(blocks[first : first + size])
            # With a cache, transformers lets the documents of a block see each other.
            total += model(**batch, use_cache=False).loss.item() * predicted_tokens(batch)
            count += predicted_tokens(batch)
    return total / count


def padded_share(lengths: Sequence[int], batch: int) -> float:
    """The share of places that hold padding, 0 to 1.

    Each `batch` of these lengths, in their order, is padded to its longest.
    """
    places = 0
    for first in range(0, len(lengths), batch):
        part = lengths[first : first + batch]
        places += max(part) * len(part)
    return 1 - sum(lengths) / places
