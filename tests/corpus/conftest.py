"""Rows and conversations, as files and as lists, for the tests of this folder."""

import json

import pytest

from hpkit.model import character_tokenizer

#: ChatML in the starter's alphabet, G for the user and E for others, with the mark by which
#: transformers itself tells which tokens an assistant wrote.
TEMPLATE = (
    "{% for turn in messages %}"
    "{{ 'K:' + {'user': 'G', 'assistant': 'a'}.get(turn['role'], 'E') + '|' }}"
    "{% if turn['role'] == 'assistant' %}"
    "{% generation %}{{ turn['content'] + '||' }}{% endgeneration %}"
    "{% else %}{{ turn['content'] + '||' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'K:a|' }}{% endif %}"
)


def say(*contents) -> list[dict]:
    """A conversation: user and assistant in turns."""
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents)]


def write_rows(folder, *rows, name="rows.jsonl") -> str:
    """A JSONL file of rows; text is written as it is."""
    lines = []
    for row in rows:
        if not isinstance(row, str):
            row = json.dumps(row)
        lines.append(row + "\n")
    file = folder / name
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


@pytest.fixture
def chat_tokenizer():
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer
