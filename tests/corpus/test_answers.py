"""Prompts and answers: which tokens the loss counts, what a model cannot do, and a whole run."""

import json

import pytest

from hpkit.corpus import blocks_of, encode_answers, load_corpus, prompt_of
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.hyperparameters import CARDS
from hpkit.lessons import questions
from hpkit.model import character_tokenizer

from .conftest import say, write_rows


def test_the_loss_counts_what_transformers_says_the_assistant_wrote(chat_tokenizer):
    for turns in (say("AB", "cd"), say("AB", "cd", "EF", "gab"), say("A", "b", "C", "d", "E")):
        (example,) = encode_answers("messages", [json.dumps(turns)], chat_tokenizer)
        truth = chat_tokenizer.apply_chat_template(
            turns, return_dict=True, return_assistant_tokens_mask=True
        )
        assert example.input_ids.tolist() == truth["input_ids"]
        assert [int(label != -100) for label in example.labels] == truth["assistant_masks"]
        for token, label in zip(example.input_ids, example.labels):
            assert label in (-100, token)


def test_of_prompt_and_completion_the_completion_and_the_end_count():
    tokenizer = character_tokenizer()
    (example,) = encode_answers(
        "prompts", [json.dumps({"prompt": "K:G\n", "completion": "ABc"})], tokenizer
    )
    assert example.input_ids.tolist() == [
        tokenizer.bos_token_id,
        *tokenizer("K:G\nABc", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    counted = [label for label in example.labels if label != -100]
    assert tokenizer.decode(counted) == f"ABc{tokenizer.eos_token}"


def test_a_prompt_ends_where_the_answer_begins(chat_tokenizer):
    turns = json.dumps(say("AB", "cd", "EF", "gab"))
    assert prompt_of("messages", turns, chat_tokenizer) == "K:G|AB||K:a|"
    row = json.dumps({"prompt": "K:G\n", "completion": "A"})
    assert prompt_of("prompts", row, chat_tokenizer) == "K:G\n"


def test_a_model_without_a_chat_template_is_told_so(tmp_path):
    corpus = load_corpus(
        write_rows(tmp_path, {"messages": say("A", "b")}, {"messages": say("C", "d")})
    )
    with pytest.raises(BadInput, match="has no chat template"):
        blocks_of(corpus, character_tokenizer(), 32)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (
            "{% if messages[0]['role'] != 'system' %}"
            "{{ raise_exception('a system turn first') }}{% endif %}",
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


def test_an_answer_within_a_token_of_its_prompt_is_learnt():
    """Where prompt and answer are one token, it is the answer's, with something before it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"AB": 0, "?": 1, "<end>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="?")), eos_token="<end>"
    )
    row = json.dumps({"prompt": "A", "completion": "B"})
    (example,) = encode_answers("prompts", [row], tokenizer)
    assert example.input_ids.tolist() == [2, 0, 2] and example.joined
    assert example.labels.tolist() == [-100, 0, 2]


def test_the_stored_questions_are_those_of_the_cards():
    assert (data_folder() / "questions.jsonl").read_text(encoding="utf-8") == questions()
    corpus = load_corpus(str(data_folder() / "questions.jsonl"))
    assert corpus.kind == "messages"
    for name in CARDS:
        assert any(name in document for document in corpus.documents)


@pytest.mark.slow
def test_a_run_on_answers(tiny_model, tmp_path, hpkit_command):
    """From the command line: loss on answers falls, and samples show prompt and answer.

    `check` counts the same examples.
    """
    rows = []
    for key in "CDEFGAB":
        for note in "abcdefg":
            rows.append({"prompt": f"K:{key}\n", "completion": f"{note}2{note}2|"})
    out = tmp_path / "out"
    asked = ["--model", tiny_model, "--corpus", write_rows(tmp_path, *rows)]
    asked += ["--max_seq_length", 32, "--per_device_train_batch_size", 4]
    how = ["--max_steps", 12, "--learning_rate", "3e-3", "--warmup_steps", 1]
    done = hpkit_command("finetune", *asked, *how, "--out", out)
    assert done.returncode == 0, done.stderr
    run = json.loads((out / "run.json").read_text())
    assert run["eval_loss_after"] < run["eval_loss_before"] and run["bars_valid_after"] is None
    before = (out / "before.txt").read_text()
    after = (out / "after.txt").read_text()
    assert before.startswith("K:") and "\n[" in before
    assert before.split("[")[0] == after.split("[")[0]
    checked = hpkit_command("check", "--recipe", "starter", *asked)
    examples, of_length, _ = done.stdout.partition(" examples of 32 tokens")
    assert of_length
    counted = examples.splitlines()[-1]
    assert f"{counted} examples" in checked.stdout, checked.stdout
