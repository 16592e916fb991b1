"""Prompts and answers: what is read, which tokens the loss counts, and that a packed row is a row alone."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from hpkit.__main__ import main
from hpkit.corpus import blocks_of, encode_answers, load_corpus, pack_whole, prompt_of
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.hyperparameters import CARDS
from hpkit.lessons import questions
from hpkit.model import character_tokenizer

#: ChatML as SmolLM2 has it, with the mark by which transformers itself tells which tokens an assistant wrote.
TEMPLATE = (
    "{% for turn in messages %}{{ 'K:' + turn['role'][0] + '|' }}"
    "{% if turn['role'] == 'assistant' %}{% generation %}{{ turn['content'] + '||' }}{% endgeneration %}"
    "{% else %}{{ turn['content'] + '||' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'K:a|' }}{% endif %}"
)


def say(*contents):
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents)]


def rows(tmp_path, *lines, name="rows.jsonl"):
    file = tmp_path / name
    file.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines),
        encoding="utf-8",
    )
    return str(file)


@pytest.fixture
def chat_tokenizer():
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_the_loss_counts_what_transformers_says_the_assistant_wrote(chat_tokenizer):
    for turns in (say("AB", "cd"), say("AB", "cd", "EF", "gab"), say("A", "b", "C", "d", "E")):
        (example,) = encode_answers("messages", [json.dumps(turns)], chat_tokenizer)
        truth = chat_tokenizer.apply_chat_template(
            turns, return_dict=True, return_assistant_tokens_mask=True
        )
        assert example["input_ids"] == truth["input_ids"]
        assert [int(label != -100) for label in example["labels"]] == truth["assistant_masks"]
        assert all(
            label in (-100, token) for token, label in zip(example["input_ids"], example["labels"])
        )


def test_of_prompt_and_completion_the_completion_and_the_end_count():
    tokenizer = character_tokenizer()
    (example,) = encode_answers(
        "prompts", [json.dumps({"prompt": "K:G\n", "completion": "ABc"})], tokenizer
    )
    assert example["input_ids"] == [
        tokenizer.bos_token_id,
        *tokenizer("K:G\nABc", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    assert (
        tokenizer.decode([label for label in example["labels"] if label != -100])
        == f"ABc{tokenizer.eos_token}"
    )


def test_a_prompt_ends_where_the_answer_begins(chat_tokenizer):
    turns = json.dumps(say("AB", "cd", "EF", "gab"))
    assert prompt_of("messages", turns, chat_tokenizer) == "K:u|AB||K:a|"
    assert (
        prompt_of("prompts", json.dumps({"prompt": "K:G\n", "completion": "A"}), chat_tokenizer)
        == "K:G\n"
    )


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ['{"prompt": "A", "completion"'],
            r"rows\.jsonl, line 1: expected one JSON object a line, got something that is not JSON",
        ),
        ([{"text": "A"}, "", "[1]"], r"line 3: expected a JSON object.*got list"),
        (
            [{"question": "A", "answer": "b"}],
            r"line 1: expected text, or prompt and completion, or messages; got question, answer",
        ),
        (
            [{"prompt": "A", "completion": "b"}, {"prompt": "A"}],
            "line 2: expected prompt and completion as in the rows before it, got prompt",
        ),
        ([{"prompt": "A", "completion": " "}], "line 1: the completion is empty"),
        ([{"prompt": "A", "completion": 3}], "line 1: expected completion to be text, got int"),
        ([{"messages": "hello"}], "line 1: expected messages as a list of"),
        ([{"messages": [{"role": "user"}]}], "line 1: expected messages as a list of"),
        (
            [{"messages": say("only a question")}],
            "line 1: no turn of the role assistant says anything",
        ),
        ([{"text": ""}], "is empty"),
        ([], "is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, lines, complaint):
    with pytest.raises(BadInput, match=complaint):
        load_corpus(rows(tmp_path, *lines))


def test_a_bad_row_ends_the_command_with_status_2(tmp_path, capsys):
    file = rows(tmp_path, {"prompt": "A", "completion": "b"}, '{"prompt": ')
    assert main(["finetune", "--corpus", file, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"hpkit: {file}, line 2: expected one JSON object")
        and len(error.splitlines()) == 1
    )
    assert not (tmp_path / "out").exists()


def test_rows_of_text_are_documents_and_rows_of_tunes_are_tunes(tmp_path):
    corpus = load_corpus(
        rows(tmp_path, {"text": "One\n\ntwo.", "id": 7}, {"text": "Three."}, {"text": "Three."})
    )
    assert corpus.kind == "text" and corpus.documents == ("One\n\ntwo.", "Three.")
    corpus = load_corpus(rows(tmp_path, {"text": "X:1\nM:6/8\nK:G\nABc def|"}))
    assert corpus.kind == "tunes" and corpus.documents == ("M:6/8\nK:G\nABcdef|",)


def test_a_folder_holds_rows_or_texts(tmp_path):
    rows(tmp_path, {"prompt": "A", "completion": "b"})
    rows(tmp_path, {"prompt": "C", "completion": "d"}, name="more.jsonl")
    assert len(load_corpus(str(tmp_path)).documents) == 2
    (tmp_path / "notes.txt").write_text("Some text.")
    with pytest.raises(BadInput, match=r"holds \.jsonl files and others"):
        load_corpus(str(tmp_path))


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": ["A", "C"], "completion": ["b", "d"]},
        {"messages": [say("A", "b"), say("C", "d")]},
    ],
)
def test_a_hub_data_set_of_answers(monkeypatch, columns):
    """Only the download is replaced: what comes back is a real data set of the datasets library."""
    import datasets

    data = datasets.Dataset.from_dict(columns | {"id": [1, 2]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: data)
    corpus = load_corpus("someone/answers")
    assert (
        corpus.kind == ("prompts" if "prompt" in columns else "messages")
        and len(corpus.documents) == 2
    )
    assert "id" not in corpus.documents[0]


def test_a_model_without_a_chat_template_is_told_so(tmp_path):
    corpus = load_corpus(rows(tmp_path, {"messages": say("A", "b")}, {"messages": say("C", "d")}))
    with pytest.raises(BadInput, match="has no chat template"):
        blocks_of(corpus, character_tokenizer(), 32)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (
            "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system turn first') }}{% endif %}",
            "refuses .*a system turn first",
        ),
        (
            "{{ messages | length }}{% for turn in messages %}{{ turn['content'] }}{% endfor %}",
            "rewrites earlier turns",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_told(template, complaint):
    tokenizer = character_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(BadInput, match=complaint):
        encode_answers("messages", [json.dumps(say("A", "b", "C", "d"))], tokenizer)


def test_an_answer_within_a_token_is_told(tmp_path, monkeypatch):
    """A tokenizer that joins prompt and answer into one token leaves nothing to learn."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"AB": 0, "?": 1}, unk_token="?"))
    )
    with pytest.raises(BadInput, match="no token of the answer is its own"):
        encode_answers("prompts", [json.dumps({"prompt": "A", "completion": "B"})], tokenizer)


def example(number: int, prompt: int, answer: int) -> dict:
    """One with tokens that no other has."""
    tokens = [100 * number + place for place in range(prompt + answer)]
    return {"input_ids": tokens, "labels": [-100] * prompt + tokens[prompt:]}


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
    expected = [
        (e["input_ids"][:length], e["labels"][:length])
        for e in examples
        if set(e["labels"][:length]) != {-100}
    ]
    assert sorted(found) == sorted(expected)
    total = sum(len(tokens) for tokens, _ in expected)
    # Best fit leaves no two blocks half empty: otherwise the second one's examples would have gone into the first.
    assert len(blocks) <= max(2 * -(-total // length), 1)


def test_nothing_fits(tmp_path, chat_tokenizer):
    corpus = load_corpus(
        rows(tmp_path, *({"prompt": "A" * 40, "completion": letter} for letter in "abcdefg"))
    )
    with pytest.raises(
        BadInput,
        match="no answer fits into 32 tokens; prompt and answer of the shortest row take 43",
    ):
        blocks_of(corpus, chat_tokenizer, 32)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_of_a_packed_example_are_those_of_it_alone(tiny_model, attention):
    """Two rows in a batch, each with several examples and padding behind them."""
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation=attention, use_cache=False
    ).eval()
    alone = [[1, 8, 9, 10, 2], [1, 20, 21, 22, 23, 24, 2], [1, 30, 31, 2], [1, 40, 41, 42, 43, 2]]
    blocks = pack_whole(
        [{"input_ids": tokens, "labels": tokens} for tokens in alone], 14, padding=0
    )
    assert len(blocks) == 2
    with torch.no_grad():
        batch = {
            name: torch.tensor([block[name] for block in blocks])
            for name in ("input_ids", "position_ids")
        }
        logits = model(**batch).logits
        seen = 0
        for tokens in alone:
            row, start = next(
                (row, start)
                for row, block in enumerate(blocks)
                for start in range(14)
                if block["input_ids"][start : start + len(tokens)] == tokens
            )
            torch.testing.assert_close(
                logits[row, start : start + len(tokens)],
                model(input_ids=torch.tensor([tokens])).logits[0],
                rtol=1e-5,
                atol=1e-5,
            )
            seen += 1
    assert seen == len(alone)


def test_the_stored_questions_are_those_of_the_cards():
    assert (data_folder() / "questions.jsonl").read_text(encoding="utf-8") == questions()
    corpus = load_corpus(str(data_folder() / "questions.jsonl"))
    assert corpus.kind == "messages" and all(
        any(name in document for document in corpus.documents) for name in CARDS
    )


@pytest.mark.slow
def test_a_run_on_answers(tiny_model, tmp_path, hpkit_command):
    """From the command line: loss on answers falls, samples show prompt and answer, `check` counts the same examples."""
    file = rows(
        tmp_path,
        *(
            {"prompt": f"K:{key}\n", "completion": f"{note}2{note}2|"}
            for key in "CDEFGAB"
            for note in "abcdefg"
        ),
    )
    out = tmp_path / "out"
    asked = (
        "--model",
        tiny_model,
        "--corpus",
        file,
        "--max_seq_length",
        32,
        "--per_device_train_batch_size",
        4,
    )
    done = hpkit_command(
        "finetune",
        *asked,
        "--max_steps",
        12,
        "--learning_rate",
        "3e-3",
        "--warmup_steps",
        1,
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((out / "run.json").read_text())
    assert run["eval_loss_after"] < run["eval_loss_before"] and run["bars_valid_after"] is None
    before, after = ((out / f"{when}.txt").read_text() for when in ("before", "after"))
    assert (
        before.startswith("K:") and "\n[" in before and before.split("[")[0] == after.split("[")[0]
    )
    checked = hpkit_command("check", "--recipe", "starter", *asked)
    counted = next(
        line for line in done.stdout.splitlines() if " examples of 32 tokens" in line
    ).split(" examples")[0]
    assert f"{counted} examples" in checked.stdout, checked.stdout
