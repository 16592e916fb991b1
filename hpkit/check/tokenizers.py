"""What a file does with its tokenizer: padding, end marks, tokens of its own."""

import ast
import re
from collections.abc import Callable
from typing import NamedTuple

from hpkit.check.names import Names, keyword, last_name, position

#: Models with exactly as many rows as tokens, 32,000: LLaMA 1 and 2, and what was made of them.
NO_ROW_TO_SPARE = re.compile(
    r"llama-?2|llama-\d+b\b|tiny-?llama|vicuna|alpaca|mistral-7b-v0\.[12]", re.IGNORECASE
)
#: Models whose tokenizers come without a token to pad with.
WITHOUT_PADDING = re.compile(
    r"llama|mistral|mixtral|zephyr|vicuna|gpt-?2|gpt-?neo|gpt-?j|pythia|falcon|phi-?[12]|mpt-|"
    r"starcoder",
    re.IGNORECASE,
)
#: Tokens that some tokenizer or other has from the start: naming one of them adds none.
USUAL_TOKENS = {"<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "<|im_end|>", "<|im_start|>"}
#: How people name a token to pad with.
PADDING = re.compile(r"pad", re.IGNORECASE)


class Seen(NamedTuple):
    """A fact: what Surroundings holds of it, and the line that says so."""

    value: object
    line: int


class TokenizerFacts:
    """The facts about padding and tokens; `value_of` tells what an expression is worth."""

    def __init__(self, names: Names, value_of: Callable):
        self._names = names
        self._value = value_of
        self._in_order = sorted(names.calls, key=position)

    def pad_is_eos(self) -> Seen | None:
        """What makes the end mark the padding, where a collator takes padding out of the loss."""
        masks = False
        for call in self._in_order:
            path = self._names.path(call.func)
            is_collator = path.rpartition(".")[2] == "DataCollatorForLanguageModeling"
            if is_collator and self._names.library(path) == "transformers":
                mlm = keyword(call, "mlm")
                masks = masks or (mlm is not None and self._value(mlm) is False)
        if not masks and not self._masks_padding():
            return None
        if not self._ends_texts():
            return None
        for store in sorted(self._names.stores, key=position):
            statement = self._names.parents[store]
            value = getattr(statement, "value", None)
            pairs = (("pad_token", "eos_token"), ("pad_token_id", "eos_token_id"))
            if isinstance(value, ast.Attribute) and (store.attr, value.attr) in pairs:
                # A model's or a generation's configuration masks nothing.
                is_of_config = "config" in ast.unparse(store.value)
                is_late = self._comes_after_training(statement)
                if not is_of_config and not is_late and not self._never_happens(statement):
                    return Seen(ast.unparse(statement), store.lineno)
        return None

    def _comes_after_training(self, statement: ast.stmt) -> bool:
        """Whether the file's own lines, in no function, have trained before they come to it."""
        trainings = [call for call in self._in_order if last_name(call) == "train"]
        names = [*trainings, statement]
        if not trainings or any(self._names.scopes[node] is not self._names.tree for node in names):
            return False
        return position(trainings[-1]) < position(statement)

    def _never_happens(self, statement: ast.stmt) -> bool:
        """`if tokenizer.pad_token is None:` above it, and a model whose tokenizer has one.

        Unsloth gives each tokenizer one itself.
        """
        above = self._names.parents[statement]
        if not isinstance(above, ast.If) or ".pad_token" not in ast.unparse(above.test):
            return False
        imports_unsloth = {"import unsloth", "unsloth"} & self._names.words
        return bool(imports_unsloth) or not self._names_one(WITHOUT_PADDING)

    def _ends_texts(self) -> bool:
        """Does the file put an end mark into its texts? Few tokenizers do it by themselves."""
        if {".apply_chat_template", "add_eos_token"} & self._names.words:
            return True
        for node in self._names.parents:
            if isinstance(node, ast.keyword) and node.arg == "add_eos_token":
                return True
            if not isinstance(node, ast.Attribute) or node.attr not in (
                "eos_token",
                "eos_token_id",
            ):
                continue
            above = self._names.parents[node]
            # Given to generate, or taken for the padding, it is put into no text.
            is_passed_on = isinstance(above, (ast.keyword, ast.Assign, ast.Compare))
            is_passed_on = is_passed_on or self._is_printed(node)
            if isinstance(node.ctx, ast.Load) and not is_passed_on:
                return True
        return False

    def _is_printed(self, node: ast.AST) -> bool:
        call = self._names.call_with(node)
        return call is not None and self._names.path(call.func) == "print"

    def _masks_padding(self) -> bool:
        """`labels[labels == tokenizer.pad_token_id] = -100`, in a collator of the file's own."""
        for node in self._names.parents:
            match node:
                case ast.Assign(targets=[ast.Subscript(slice=ast.Compare() as where)]):
                    value = self._value(node.value)
                    if "pad_token_id" in ast.unparse(where) and value == -100:
                        return True
        return False

    def added_tokens(self) -> Seen | None:
        """What adds tokens, where the model gets no rows for them."""
        # The model's own method, Unsloth's, or a function of the file.
        if any("resize" in word or "add_new_tokens" in word for word in self._names.words):
            return None
        # Or the model is made for them.
        if any(part.arg == "vocab_size" for call in self._in_order for part in call.keywords):
            return None
        for call in self._in_order:
            if last_name(call) in ("add_tokens", "add_special_tokens") and call.args:
                texts = _texts(call.args[0]) + self._named_texts(call.args[0])
                new = [token for token in texts if token not in USUAL_TOKENS]
                if new and (not _is_padding_alone(call.args[0]) or self.names_full_model()):
                    return Seen(f"{last_name(call)}({new[0]!r}…)", call.lineno)
        return None

    def new_tokens(self) -> Seen | None:
        """What adds tokens that are to be learnt: no usual ones, and none to pad with."""
        for call in self._in_order:
            if last_name(call) not in ("add_tokens", "add_special_tokens", "add_new_tokens"):
                continue
            given = keyword(call, "new_tokens", "special_tokens_dict")
            # Unsloth's function takes the model and the tokenizer first.
            place = 2 if last_name(call) == "add_new_tokens" else 0
            if given is None and len(call.args) > place:
                given = call.args[place]
            tokens = self._names.origin(given)
            if tokens is None:
                continue
            texts = _texts(tokens) + self._named_texts(tokens)
            new = [text for text in texts if text not in USUAL_TOKENS and not PADDING.search(text)]
            if new:
                return Seen(f"{last_name(call)}({new[0]!r}…)", call.lineno)
        return None

    def names_full_model(self) -> bool:
        """Does the file name a model whose embedding has no row to spare?"""
        return self._names_one(NO_ROW_TO_SPARE)

    def _names_one(self, models: re.Pattern) -> bool:
        """Does a text of the file name one of these models?"""
        for node in self._names.parents:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if models.search(node.value):
                    return True
        return False

    def _named_texts(self, node: ast.expr) -> list[str]:
        """The texts that names in a list or in a dict's values hold."""
        parts = node.values if isinstance(node, ast.Dict) else [node]
        found = []
        for part in parts:
            origin = self._names.origin(part) if isinstance(part, ast.Name) else None
            if origin is not None:
                found += _texts(origin)
        return found


def _is_padding_alone(node: ast.expr) -> bool:
    """`{"pad_token": …}`: of most models the embedding has rows to spare for one token."""
    if not isinstance(node, ast.Dict):
        return False
    return [getattr(key, "value", None) for key in node.keys] == ["pad_token"]


def _texts(node: ast.expr) -> list[str]:
    """The texts in a list, a dict's values or a call such as AddedToken("…")."""
    parts = node.values if isinstance(node, ast.Dict) else [node]
    found = []
    for part in parts:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                found.append(inner.value)
    return found
