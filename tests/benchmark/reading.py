"""A large text from its file to blocks: seconds, and memory over what the process has before.

python -m benchmark.reading WORDS    in tests/, of a text that is made for it
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

#: About the length of a paragraph; the text's words are as often as in English, by Zipf's law.
WORDS_A_PASSAGE = 100
VOCABULARY = 30_000
LENGTH = 1024


def write_text(file: Path, words: int) -> None:
    """A text of so many words in passages, none like another."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwyp"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = [1 / rank for rank in range(1, VOCABULARY + 1)]
    with file.open("w") as opened:
        for _ in range(words // WORDS_A_PASSAGE):
            passage = draw.choices(vocabulary, weights, k=WORDS_A_PASSAGE)
            opened.write(" ".join(passage) + ".\n\n")


def train_tokenizer(file: Path):
    """A byte-level BPE of 8,000 tokens, made from the beginning of the text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=8_000, special_tokens=["<|endoftext|>"], show_progress=False
    )
    with file.open() as opened:
        tokenizer.train_from_iterator([opened.read(2_000_000)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def measure(words: int) -> dict:
    """Seconds, tokens, and the most bytes that the process held beyond what it began with."""
    from hpkit.corpus import blocks_of, load_corpus

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        write_text(file, words)
        tokenizer = train_tokenizer(file)
        tokenizer(["Warm."])
        base = _held("VmRSS")
        # The most so far is that of the making: from here on it is that of the reading.
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        train, held_out = blocks_of(load_corpus(str(file)), tokenizer, LENGTH)
        seconds = time.perf_counter() - began
    tokens = (len(train) + len(held_out)) * LENGTH
    return {"tokens": tokens, "seconds": seconds, "bytes": _held("VmHWM") - base}


def _held(field: str) -> int:
    """Bytes of this process, as Linux has them: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
