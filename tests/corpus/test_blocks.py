"""Encoding and packing: no token lost, whole answers, and a packed document is one alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from hpkit.corpus import blocks_of, encode, encode_answers, load_corpus, pack, pack_whole
from hpkit.corpus.answers import Example
from hpkit.corpus.blocks import packed
from hpkit.errors import BadInput
from hpkit.model import character_tokenizer

from .conftest import write_rows


def test_encoding_marks_both_ends():
    corpus = load_corpus("aksak")
    tokenizer = character_tokenizer()
    train, held_out = encode(corpus, tokenizer)
    assert len(train) + len(held_out) == len(corpus.documents)
    first = train[0]
    assert (first[0], first[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(first, skip_special_tokens=True) == corpus.split()[0][0]


def test_a_character_outside_the_alphabet_is_named_with_its_place(tmp_path):
    file = tmp_path / "t.txt"
    file.write_bytes(b"ABC\n\nabc\nab qc\n")
    corpus = load_corpus(str(file))
    with pytest.raises(
        BadInput, match=r"t\.txt, line 4, column 3: character ' ' \(U\+0020\).*would become <unk>"
    ):
        encode(corpus, character_tokenizer())


def test_the_place_of_such_a_character_in_the_text_evaluated_on(tmp_path):
    (tmp_path / "train.txt").write_text("ABC")
    (tmp_path / "held.txt").write_text("abc\n\nab qc\n")
    corpus = load_corpus(str(tmp_path / "train.txt"), str(tmp_path / "held.txt"))
    with pytest.raises(BadInput, match=r"held\.txt, line 3, column 3: character ' '"):
        encode(corpus, character_tokenizer())


def test_a_text_of_its_own_is_evaluated_to_the_last_block(tmp_path):
    (tmp_path / "train.txt").write_text("ABC\n\nDEF\n\nGAB")
    (tmp_path / "held.txt").write_text("abc")
    tokenizer = character_tokenizer()
    corpus = load_corpus(str(tmp_path / "train.txt"), str(tmp_path / "held.txt"))
    train, evaluation = blocks_of(corpus, tokenizer, 5)
    texts = [tokenizer.decode(block["input_ids"], skip_special_tokens=True) for block in train]
    assert texts == ["ABC", "DEF", "GAB"]
    assert tokenizer.decode(evaluation[0]["input_ids"]) == "<bos>abc<eos>"


def test_a_text_too_small_to_evaluate_on_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("ABC")
    (tmp_path / "held.txt").write_text("a")
    corpus = load_corpus(str(tmp_path / "train.txt"), str(tmp_path / "held.txt"))
    tokenizer = character_tokenizer()
    blocks_of(corpus, tokenizer, 8)
    # A model without marks at the ends sees one token, and nothing before it.
    tokenizer.bos_token = None
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match=r"^eval_corpus .*held\.txt is too small"):
        blocks_of(corpus, tokenizer, 8)


def test_packing_loses_no_token_but_the_rest():
    documents = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    first, second = pack(documents, 4)
    assert first == {
        "input_ids": [1, 2, 3, 4],
        "position_ids": [0, 1, 2, 0],
        "labels": [-100, 2, 3, -100],
    }
    assert second == {
        "input_ids": [5, 6, 7, 8],
        "position_ids": [0, 0, 1, 2],
        "labels": [-100, -100, 7, 8],
    }
    (only,) = pack(documents, 20)
    assert only["input_ids"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_in_one_block_do_not_see_each_other(tiny_model, attention):
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation=attention, use_cache=False
    ).eval()
    documents = [[1, 8, 9, 10, 2], [1, 20, 21, 22, 23, 24, 2], [1, 30, 31, 2]]
    (block,) = pack(documents, 16)
    with torch.no_grad():
        packed = model(
            input_ids=torch.tensor([block["input_ids"]]),
            position_ids=torch.tensor([block["position_ids"]]),
        )
        alone = torch.cat(
            [model(input_ids=torch.tensor([document])).logits[0] for document in documents]
        )
    torch.testing.assert_close(packed.logits[0], alone, rtol=1e-5, atol=1e-5)


def example(number: int, prompt: int, answer: int) -> Example:
    """One with tokens that no other has."""
    tokens = 100 * number + np.arange(prompt + answer)
    return Example(tokens, np.where(np.arange(len(tokens)) < prompt, -100, tokens), joined=False)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30),
    st.integers(4, 24),
)
def test_every_example_is_whole_once_and_every_block_full(sizes, length):
    examples = [example(number, *size) for number, size in enumerate(sizes, 1)]
    blocks = pack_whole(examples, length, padding=0)
    found = []
    for block in blocks:
        assert {len(values) for values in block.values()} == {length}
        starts = [place for place, position in enumerate(block["position_ids"]) if position == 0]
        for start, end in zip(starts, [*starts[1:], length]):
            tokens = block["input_ids"][start:end]
            if any(tokens):
                found.append((tokens, block["labels"][start:end]))
            else:
                assert set(block["labels"][start:end]) == {-100}
    expected = []
    for whole in examples:
        labels = whole.labels[:length].tolist()
        if set(labels) != {-100}:
            expected.append((whole.input_ids[:length].tolist(), labels))
    assert sorted(found) == sorted(expected)
    total = sum(len(tokens) for tokens, _ in expected)
    # Best fit leaves no two blocks half empty: otherwise the second one's examples would have gone
    # into the first.
    assert len(blocks) <= max(2 * -(-total // length), 1)


def test_nothing_fits(tmp_path, chat_tokenizer):
    rows = [{"prompt": "A" * 40, "completion": letter} for letter in "abcdefg"]
    corpus = load_corpus(write_rows(tmp_path, *rows))
    why = "no answer fits into 32 tokens; prompt and answer of the shortest row take 43"
    with pytest.raises(BadInput, match=why):
        blocks_of(corpus, chat_tokenizer, 32)


def place_of(tokens: list[int], blocks: list[dict]) -> tuple[int, int]:
    """(number of the block, where in it these tokens begin)."""
    for row, block in enumerate(blocks):
        for start in range(len(block["input_ids"])):
            if block["input_ids"][start : start + len(tokens)] == tokens:
                return row, start
    raise AssertionError(f"{tokens} stand in no block")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_of_a_packed_example_are_those_of_it_alone(tiny_model, attention):
    """Two rows in a batch, each with several examples and padding behind them."""
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation=attention, use_cache=False
    ).eval()
    alone = [[1, 8, 9, 10, 2], [1, 20, 21, 22, 23, 24, 2], [1, 30, 31, 2], [1, 40, 41, 42, 43, 2]]
    rows = [np.array(tokens) for tokens in alone]
    blocks = pack_whole([Example(tokens, tokens, joined=False) for tokens in rows], 14, padding=0)
    assert len(blocks) == 2
    batch = {}
    for name in ("input_ids", "position_ids"):
        batch[name] = torch.tensor([block[name] for block in blocks])
    found = set()
    with torch.no_grad():
        logits = model(**batch).logits
        for tokens in alone:
            row, start = place_of(tokens, blocks)
            found.add((row, start))
            torch.testing.assert_close(
                logits[row, start : start + len(tokens)],
                model(input_ids=torch.tensor([tokens])).logits[0],
                rtol=1e-5,
                atol=1e-5,
            )
    assert len(found) == len(alone)


def tiny(kind: str):
    """A model that carries documents into one another, and its own context."""
    from transformers import MambaConfig, OPTConfig

    torch.manual_seed(0)
    shape = dict(vocab_size=56, hidden_size=32, num_hidden_layers=2)
    config = MambaConfig(**shape, state_size=4)
    if kind == "opt":
        heads = dict(num_attention_heads=2, ffn_dim=64, word_embed_proj_dim=32)
        config = OPTConfig(**shape, **heads, max_position_embeddings=64)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", ["opt", "mamba"])
@pytest.mark.parametrize("rows", [False, True])
def test_a_document_in_a_block_of_its_own_has_the_loss_that_it_has_alone(tmp_path, kind, rows):
    """Padded, in batches: the labels, and the sum of the loss over them, are the same."""
    tokenizer = character_tokenizer()
    texts = ["ABc", "dEFGab", "A", "cdefgabc'd'e'f'", "GGGG", "CDEFGABcde|"]
    if rows:
        corpus = load_corpus(
            write_rows(tmp_path, *[{"prompt": text[:2], "completion": text} for text in texts])
        )
    else:
        (tmp_path / "t.txt").write_text("\n\n".join(texts))
        corpus = load_corpus(str(tmp_path / "t.txt"))
    found = packed(corpus, list(corpus.documents), tokenizer, 12, together=False)
    blocks = found.blocks
    model = tiny(kind)
    batch = {name: torch.tensor([block[name] for block in blocks]) for name in blocks[0]}
    if kind == "mamba":
        del batch["position_ids"]  # as the Trainer does for a model that takes none
    with torch.no_grad():
        together = model(**batch).loss * (batch["labels"][:, 1:] != -100).sum()
        alone = 0.0
        tokens = 0
        for example in alone_of(corpus, tokenizer, 12):
            kept = torch.tensor(example.input_ids)[None], torch.tensor(example.labels)[None]
            alone += model(input_ids=kept[0], labels=kept[1]).loss * (kept[1][:, 1:] != -100).sum()
            tokens += kept[0].numel()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    places = len(blocks) * len(blocks[0]["input_ids"])
    assert found.text_share == tokens / places and found.without_block == 0


def alone_of(corpus, tokenizer, length: int) -> list[Example]:
    """Every document by itself, cut into pieces or cut off at `length`."""
    if corpus.kind == "prompts":
        whole = encode_answers("prompts", corpus.documents, tokenizer)
        return [
            example._replace(
                input_ids=example.input_ids[:length].astype(int),
                labels=example.labels[:length].astype(int),
            )
            for example in whole
        ]
    pieces = []
    for text in corpus.documents:
        tokens = [tokenizer.bos_token_id, *tokenizer(text).input_ids, tokenizer.eos_token_id]
        for start in range(0, len(tokens), length):
            piece = np.array(tokens[start : start + length])
            if len(piece) > 1:
                pieces.append(Example(piece, piece, joined=False))
    return pieces
