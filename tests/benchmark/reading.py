"""A large text from its file to blocks: seconds, and memory over what the process has before.

python -m benchmark.reading WORDS SHAPE    in tests/, of a text that is made for it
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

#: How many words stand together, and as what: paragraphs, chapters, or rows with an answer.
SHAPES = {"passages": 100, "chapters": 20_000, "rows": 100}
#: The text's words are as often as in English, by Zipf's law.
VOCABULARY = 30_000
LENGTH = 512


def write_text(file: Path, words: int, shape: str) -> None:
    """A text of so many words, no document like another."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwyp"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = [1 / rank for rank in range(1, VOCABULARY + 1)]
    together = SHAPES[shape]
    with file.open("w") as opened:
        for _ in range(words // together):
            text = " ".join(draw.choices(vocabulary, weights, k=together))
            if shape == "rows":
                row = {"prompt": text[: len(text) // 2], "completion": text[len(text) // 2 :]}
                opened.write(json.dumps(row) + "\n")
            else:
                opened.write(f"{text}.\n\n")


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


def measure(words: int, shape: str) -> dict:
    """Seconds, tokens, and the most bytes that the process held beyond what it began with.

    All that a run does with its text: reading, encoding, packing, and the account of it.
    """
    from hpkit.corpus import load_corpus
    from hpkit.finetune.text import fingerprint_of, text_for
    from hpkit.finetune.yardstick import WHOLE
    from hpkit.model import load_model
    from hpkit.recipe import Recipe

    model, _ = load_model("starter")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("rows.jsonl" if shape == "rows" else "text.txt")
        write_text(file, words, shape)
        tokenizer = train_tokenizer(file)
        tokenizer(["Warm."])
        base = _held("VmRSS")
        # The most so far is that of the making: from here on it is that of the reading.
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        corpus = load_corpus(str(file))
        text = text_for(model, tokenizer, Recipe(max_seq_length=LENGTH), corpus, WHOLE)
        fingerprint_of(text.blocks.evaluation)
        seconds = time.perf_counter() - began
    blocks = len(text.blocks.train.blocks) + len(text.blocks.held_out.blocks)
    return {"tokens": blocks * LENGTH, "seconds": seconds, "bytes": _held("VmHWM") - base}


def _held(field: str) -> int:
    """Bytes of this process, as Linux has them: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
