"""Whatever is fed in: one line, or documents that add up to what was read."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpkit.corpus import encode_answers, load_corpus
from hpkit.corpus.blocks import packed
from hpkit.corpus.ledger import ledger_of
from hpkit.errors import BadInput
from hpkit.model import character_tokenizer

from .conftest import TEMPLATE

NAMES = st.sampled_from(
    (
        "a.txt",
        "a.md",
        "a.abc",
        "a.json",
        "a.jsonl",
        "a.ndjson",
        "a.csv",
        "a.tsv",
        "a.parquet",
        "a.gz",
    )
)
MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Of the starter's alphabet, so that some documents get through.
TEXTS = st.text("ABCabc|:12 \n\ud83d\u2028é", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("user", "assistant", "system", "tool")), "content": TEXTS | JSON},
        optional={"tool_calls": JSON, "name": JSON},
    )
    | JSON,
    max_size=4,
)
ROWS = st.lists(
    st.fixed_dictionaries({"text": TEXTS | JSON})
    | st.fixed_dictionaries({"prompt": TEXTS, "completion": TEXTS | JSON})
    | st.fixed_dictionaries({"messages": TURNS}, optional={"tools": JSON})
    | JSON,
    max_size=6,
)


def read(file) -> None:
    """Read a file and pack it: BadInput of one line, or an account that adds up."""
    try:
        corpus = load_corpus(str(file))
        check(corpus)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1 and str(error)


def check(corpus) -> None:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE
    train, held_out = corpus.split()
    assert sorted(train + held_out) == sorted(corpus.documents)
    assert corpus.read == len(corpus.documents) + sum(corpus.passed_over.values())
    length = 8
    parts = [packed(corpus, side, tokenizer, length) for side in (train, held_out) if side]
    account = ledger_of(corpus, parts, tokenizer, together=True)
    assert account.kept == len(corpus.documents)
    # Tokens, counted one document at a time, are in a block or left over.
    if corpus.kind in ("tunes", "text"):
        tokens = sum(len(tokenizer(text).input_ids) + 2 for text in corpus.documents)
        in_blocks = sum(len(block["input_ids"]) for part in parts for block in part.blocks)
    else:
        examples = encode_answers(corpus.kind, corpus.documents, tokenizer)
        tokens = sum(len(example.input_ids) for example in examples)
        in_blocks = 0
        for part in parts:
            in_blocks += round(part.text_share * length * len(part.blocks))
        fits = [(example.labels[1:length] != -100).any() for example in examples]
        assert account.without_room == len(fits) - sum(fits)
    assert in_blocks + account.tokens_left_over == tokens


@MANY
@given(NAMES, st.binary(max_size=200))
def test_random_bytes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    read(tmp_path / name)


@MANY
@given(NAMES, JSON)
def test_random_json(tmp_path, name, value):
    (tmp_path / name).write_text(json.dumps(value))
    read(tmp_path / name)


@MANY
@given(NAMES, ROWS, st.booleans())
def test_random_rows(tmp_path, name, rows, as_array):
    lines = [json.dumps(row) for row in rows]
    text = "[" + ",".join(lines) + "]" if as_array else "\n".join(lines)
    (tmp_path / name).write_text(text)
    read(tmp_path / name)


@MANY
@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt": st.text("ABC ", max_size=6), "completion": st.text("ab", min_size=1)}
        ),
        min_size=2,
        max_size=8,
    )
)
def test_rows_that_are_right_are_all_read(tmp_path, rows):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    corpus = load_corpus(str(file))
    assert [json.loads(document) for document in corpus.documents] == rows
