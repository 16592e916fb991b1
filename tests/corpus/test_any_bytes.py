"""Whatever is fed in: one line, or documents that add up to what was read."""

import itertools
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
RIGHT_TEXT = st.text("ABCabc|:12", min_size=1, max_size=12)
CONVERSATION = st.lists(RIGHT_TEXT, min_size=1, max_size=4).map(
    lambda said: [
        {"role": ("user", "assistant")[number % 2], "content": text}
        for number, text in enumerate([*said, "A"] if len(said) % 2 else said)
    ]
)
#: Of each form rows that are right, with now and then one that is not.
FORMS = (
    st.fixed_dictionaries({"text": RIGHT_TEXT}),
    st.fixed_dictionaries({"prompt": RIGHT_TEXT | st.just(""), "completion": RIGHT_TEXT}),
    st.fixed_dictionaries({"messages": CONVERSATION}),
)
ODD = (
    st.fixed_dictionaries({"text": TEXTS | JSON})
    | st.fixed_dictionaries({"prompt": TEXTS, "completion": TEXTS | JSON})
    | st.fixed_dictionaries({"messages": TURNS}, optional={"tools": JSON})
    | JSON
)


@st.composite
def rows_of_one_form(draw) -> list:
    form = draw(st.sampled_from(FORMS))
    rows = draw(st.lists(form, min_size=2, max_size=8))
    if draw(st.integers(0, 9)) == 0:
        rows.append(draw(ODD))
    return rows


def read(file):
    """Read a file and pack it: None for BadInput of one line, the corpus where sums are right."""
    try:
        corpus = load_corpus(str(file))
        for together in (True, False):
            check(corpus, together)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1 and str(error)
        return None
    return corpus


def check(corpus, together: bool) -> None:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE
    train, held_out = corpus.split()
    assert sorted(train + held_out) == sorted(corpus.documents)
    length = 24 if corpus.kind == "messages" else 8  # a template's marks take room
    sides = [side for side in (train, held_out) if side]
    parts = [packed(corpus, side, tokenizer, length, together) for side in sides]
    account = ledger_of(corpus, parts, tokenizer, together)
    assert account.kept == len(corpus.documents)
    # Tokens, counted one document at a time, are in a block or left over.
    if corpus.kind in ("tunes", "text"):
        sizes = [len(tokenizer(text).input_ids) + 2 for text in corpus.documents]
    else:
        examples = encode_answers(corpus.kind, corpus.documents, tokenizer)
        sizes = [len(example.input_ids) for example in examples]
        room = [(example.labels[1:length] != -100).any() for example in examples]
        assert account.in_no_block == len(room) - sum(room)
    in_blocks = 0
    for part in parts:
        places = sum(len(block["input_ids"]) for block in part.blocks)
        in_blocks += round(part.text_share * places)
        for block in part.blocks:
            assert len({len(values) for values in block.values()}) == 1
            assert any(label != -100 for label in block["labels"])
    assert in_blocks + account.tokens_left_over == sum(sizes)


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


def test_rows_of_one_form(tmp_path):
    outcomes = []

    @MANY
    @given(st.sampled_from(("a.json", "a.jsonl", "a.txt")), rows_of_one_form(), st.booleans())
    def feed(name, rows, as_array):
        lines = [json.dumps(row) for row in rows]
        text = "\n".join(lines)
        if as_array:
            text = "[" + ",".join(lines) + "]"
        (tmp_path / name).write_text(text)
        corpus = read(tmp_path / name)
        outcomes.append(corpus is not None)
        if corpus is not None:
            # Every row was read; a text that came before is counted and left out.
            assert corpus.read == len(rows)
            if corpus.kind != "text":
                assert len(corpus.documents) == len(rows)

    feed()
    # Most of what is fed in is right: a test that only saw refusals would prove nothing.
    assert sum(outcomes) > len(outcomes) / 3


@MANY
@given(st.lists(FORMS[1], min_size=2, max_size=8))
def test_rows_that_are_right_are_all_read(tmp_path, rows):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    rows = [row for row in rows if row["completion"].strip()]
    try:
        corpus = load_corpus(str(file))
    except BadInput as error:
        assert "the completion is empty" in str(error)
    else:
        assert [json.loads(document) for document in corpus.documents] == rows


LINES = st.sampled_from(("ABC", "abc|", "GGG", "", "", "  ", "\t"))


@MANY
@given(st.lists(LINES, max_size=20))
def test_every_passage_is_read(tmp_path, lines):
    """Lines that are not blank, as many as follow one another, are a passage."""
    passages = []
    for filled, group in itertools.groupby(lines, key=lambda line: bool(line.strip())):
        if filled:
            passages.append("\n".join(group))
    (tmp_path / "a.txt").write_text("\n".join(lines))
    try:
        corpus = load_corpus(str(tmp_path / "a.txt"))
    except BadInput:
        assert not passages
    else:
        assert corpus.read == len(passages)
        assert corpus.documents == tuple(dict.fromkeys(passages))
