"""What a file does with its adapter: which model gets it, in what format, what it leaves out."""

import ast
import math
import re
from collections.abc import Callable

from hpkit.check.names import Names, keyword, last_name, position
from hpkit.check.tokenizers import Seen, TokenizerFacts
from hpkit.check.values import UNKNOWN

#: Calls that put an adapter on a model, by the last part of their name.
APPLIES_ADAPTER = {
    "get_peft_model",
    "add_adapter",
    "load_adapter",
    "inject_adapter_in_model",
    "get_peft_config",
    "PeftModel",
    "PeftModelForCausalLM",
    "prepare_peft_model",
}
#: Configurations of adapters.
ADAPTER_CONFIG = re.compile(
    r"peft\.(\w+\.)*(Lora|AdaLora|IA3|LoHa|LoKr|OFT|BOFT|Vera|Prefix\w*|Prompt\w*|PTuning)\w*Config"
)
#: Those that learn inputs or scales, at rates of their own.
SOFT_PROMPT = re.compile(r"peft\.(\w+\.)*\w*(Prefix|Prompt|PTuning|IA3)\w*Config")
UNSLOTH_ADAPTER = re.compile(r"unsloth\.Fast\w*\.get_peft_model")
#: Rank and alpha where they are left out: peft's, and Unsloth's.
RANK_AND_ALPHA = {"LoraConfig": 8, "get_peft_model": 16}
#: Calls that load an adapter beside its model.
LOADS_ADAPTER = re.compile(r"peft\.(\w+\.)*(PeftModel\w*|AutoPeftModel\w*)\.from_pretrained")
#: Words of a file that sets gradients itself, or makes another adapter than the loaded one.
UNFREEZES = {
    ".requires_grad_",
    ".set_adapter",
    ".add_adapter",
    ".load_adapter",
    ".enable_adapter_layers",
    ".enable_adapters",
    ".set_requires_grad",
}
#: Methods that hand on the model they belong to, and calls that wrap their first argument.
HANDS_ON = {"to", "cuda", "cpu", "eval", "train", "half", "bfloat16", "float"}
WRAPS = {"get_peft_model", "prepare_model_for_kbit_training", "from_pretrained"}
FP16 = {"torch.float16", "torch.half"}
#: Parts of the names that embeddings and output layers have.
EMBEDDINGS = re.compile(r"embed|lm_head|wte|shared|output_layer")


class AdapterFacts:
    """The facts about adapters; `value_of` tells what an expression is worth."""

    def __init__(
        self,
        names: Names,
        value_of: Callable,
        trainers: list[ast.Call],
        tokenizer: TokenizerFacts,
    ):
        self._names = names
        self._value = value_of
        self._trainers = trainers
        self._tokenizer = tokenizer
        self._in_order = sorted(names.calls, key=position)

    def facts(self) -> dict[str, Callable]:
        """What there is to ask, by the names of `hpkit.preflight.Surroundings`."""
        return {
            "adapter": self.adapter,
            "soft_prompt": self._soft_prompt,
            "idle_adapter": self._idle_adapter,
            "adapter_scale": self._adapter_scale,
            "by_root": self._by_root,
            "adapter_rank": self._adapter_rank,
            "target_modules": self._target_modules,
            "frozen_adapter": self._frozen_adapter,
            "fp16_adapter": self._fp16_adapter,
            "merged_bits": self._merged_bits,
            "untrained_tokens": self._untrained_tokens,
        }

    # Whether there is one.

    def adapter(self) -> Seen | None:
        """What makes an adapter that some model gets."""
        for call in self._in_order:
            applied = last_name(call)
            if applied in APPLIES_ADAPTER or self._names.path(call.func).startswith(
                "peft.PeftModel"
            ):
                return Seen(applied or "PeftModel", call.lineno)
            given = keyword(call, "peft_config")
            origin = self._names.origin(given)
            if given is not None and not (origin is not None and is_none(origin)):
                return Seen("peft_config", given.lineno)
        for config in self._configs():
            # Whoever gets it may put it on the model.
            if not self._stays_unused(config):
                return Seen(last_name(config), config.lineno)
        return None

    def _configs(self) -> list[ast.Call]:
        return [c for c in self._in_order if ADAPTER_CONFIG.fullmatch(self._names.path(c.func))]

    def _soft_prompt(self) -> Seen | None:
        """A configuration of SOFT_PROMPT, where the file has none of LoRA's kind."""
        paths = {call: self._names.path(call.func) for call in self._in_order}
        soft = [call for call, path in paths.items() if SOFT_PROMPT.fullmatch(path)]
        if not soft or [call for call in self._configs() if call not in soft]:
            return None
        return Seen(last_name(soft[0]), soft[0].lineno)

    def _stays_unused(self, config: ast.Call) -> bool:
        """Is an adapter's configuration given a name that nobody reads, but to print it?"""
        statement = self._names.parents[config]
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                uses = self._names.uses[name]
            case _:
                return isinstance(statement, ast.Expr)
        for use in uses:
            call = self._names.call_with(use)
            if call is None or self._names.path(call.func) not in ("print", "repr", "str"):
                return False
        return not self._names.wild

    def _idle_adapter(self) -> Seen | None:
        configs = self._configs()
        # What was not read may put it on the model.
        if self._names.lost:
            return None
        if configs and self._trainers and self.adapter() is None:
            return Seen(last_name(configs[0]), configs[0].lineno)
        return None

    # Its numbers.

    def _loras(self) -> list[ast.Call]:
        """The calls that take LoRA's numbers: peft's configuration, and Unsloth's function."""
        found = []
        for call in self._in_order:
            path = self._names.path(call.func)
            is_config = ADAPTER_CONFIG.fullmatch(path) and last_name(call) == "LoraConfig"
            if is_config or UNSLOTH_ADAPTER.fullmatch(path):
                found.append(call)
        return found

    def _number(self, lora: ast.Call, name: str):
        """The rank or alpha of a call; UNKNOWN where the text does not tell."""
        given = keyword(lora, name)
        if given is not None:
            return self._value(given)
        if any(part.arg is None for part in lora.keywords):
            return UNKNOWN
        return RANK_AND_ALPHA[last_name(lora)]

    def _adapter_scale(self) -> Seen | None:
        for lora in self._loras():
            alpha = self._number(lora, "lora_alpha")
            rank = self._number(lora, "r")
            by_root = self._is_by_root(lora)
            numbers = [number for number in (alpha, rank) if isinstance(number, int) and number > 0]
            if len(numbers) == 2 and by_root is not None:
                return Seen(scale_of(alpha, rank, by_root), lora.lineno)
        return None

    def _is_by_root(self, lora: ast.Call) -> bool | None:
        """Is alpha divided by the root of the rank? None where the text does not tell."""
        given = keyword(lora, "use_rslora")
        if given is None:
            return False
        value = self._value(given)
        return value if isinstance(value, bool) else None

    def _by_root(self) -> Seen | None:
        scale = self._adapter_scale()
        for lora in self._loras():
            if scale is not None and lora.lineno == scale.line and self._is_by_root(lora):
                return Seen(True, lora.lineno)
        return None

    def _adapter_rank(self) -> Seen | None:
        for lora in self._loras():
            given = keyword(lora, "r")
            rank = self._value(given) if given is not None else UNKNOWN
            if isinstance(rank, int):
                return Seen(rank, given.lineno)
        return None

    def _target_modules(self) -> Seen | None:
        loras = self._loras()
        if len(loras) != 1:
            return None
        given = keyword(loras[0], "target_modules")
        targets = self._targets_of(loras[0])
        return Seen(targets, given.lineno) if targets else None

    def _targets_of(self, lora: ast.Call) -> tuple[str, ...] | str | None:
        """The names or the pattern of the layers that get an adapter, where they are told."""
        given = keyword(lora, "target_modules")
        value = self._value(given) if given is not None else ()
        if isinstance(value, str):
            return value
        is_list = isinstance(value, (list, tuple))
        if is_list and all(isinstance(name, str) for name in value):
            return tuple(value)
        return None

    # Which model gets it.

    def model_of(self, trainer: ast.Call) -> ast.expr | None:
        """What a trainer is given as its model."""
        given = keyword(trainer, "model")
        if given is None and trainer.args:
            return trainer.args[0]
        return given

    def _made_by(self, node: ast.expr | None) -> list[ast.Call]:
        """The calls that a model went through, the last one first, as far as the text tells."""
        found = []
        while node is not None and len(found) < 10:
            node = self._names.origin(node)
            if isinstance(node, ast.Attribute) and node.attr == "model":
                trainer = self._names.origin(node.value)
                node = self.model_of(trainer) if trainer in self._trainers else None
                continue
            if isinstance(node, ast.Subscript):  # `model, tokenizer = load()`
                node = node.value
            if not isinstance(node, ast.Call):
                break
            found.append(node)
            name = last_name(node)
            if name in HANDS_ON and isinstance(node.func, ast.Attribute):
                node = node.func.value
            elif name in WRAPS:
                given = keyword(node, "model")
                if given is None and node.args:
                    given = node.args[0]
                node = given
            else:
                break
        return found

    def _trained(self) -> list[ast.Call]:
        """The calls that the model of the file's only trainer went through."""
        if len(self._trainers) != 1 or self._names.lost:
            return []
        return self._made_by(self.model_of(self._trainers[0]))

    def _frozen_adapter(self) -> Seen | None:
        made = self._trained()
        if not made or UNFREEZES & self._names.words or "requires_grad" in self._names.stored:
            return None
        # A trainer of TRL that gets a configuration as well refuses the model, or merged it once.
        if any(part.arg in (None, "peft_config") for part in self._trainers[0].keywords):
            return None
        for call in made:
            if last_name(call) in HANDS_ON:
                continue
            if not LOADS_ADAPTER.fullmatch(self._names.path(call.func)):
                return None
            trainable = keyword(call, "is_trainable")
            is_told = trainable is not None and self._value(trainable) is not False
            unpacked = any(part.arg is None for part in call.keywords)
            if is_told or unpacked or len(call.args) > 3 or not self._is_run(self._trainers[0]):
                return None
            return Seen(self._names.path(call.func).partition(".")[2], call.lineno)
        return None

    def _is_run(self, trainer: ast.Call) -> bool:
        """Is `train` called on a trainer, and not on its evaluation alone?"""
        for call in self._in_order:
            if last_name(call) == "train" and isinstance(call.func, ast.Attribute):
                if self._names.origin(call.func.value) is trainer:
                    return True
        return False

    def _fp16_adapter(self) -> Seen | None:
        """What makes the trained adapter one of float16; by itself peft makes it one of float32."""
        made = self._trained()
        applied = [call for call in made if last_name(call) == "get_peft_model"]
        # Of a quantized model TRL sets the adapter's format itself.
        if len(applied) != 1 or self.bits_of(made[-1]):
            return None
        (adapter,) = applied
        for call in self._in_order:
            is_before = position(call) < position(self._trainers[0])
            if is_before and self._makes_fp16(call) and adapter in self._made_by(call.func.value):
                return Seen(ast.unparse(call)[-40:], call.lineno)
        autocast = keyword(adapter, "autocast_adapter_dtype")
        base = keyword(made[-1], "dtype", "torch_dtype")
        if autocast is not None and self._value(autocast) is False and self._is_fp16(base):
            return Seen("autocast_adapter_dtype=False", autocast.lineno)
        return None

    def _makes_fp16(self, call: ast.Call) -> bool:
        """`model.half()` and `model.to(torch.float16)`."""
        if not isinstance(call.func, ast.Attribute):
            return False
        if call.func.attr == "half":
            return not call.args
        given = [*call.args, *(part.value for part in call.keywords)]
        return call.func.attr == "to" and any(map(self._is_fp16, given))

    def _is_fp16(self, node: ast.expr | None) -> bool:
        if node is None:
            return False
        origin = self._names.origin(node)
        path = self._names.path(origin) if origin is not None else ""
        return path in FP16 or self._value(node) == "float16"

    def bits_of(self, load: ast.Call) -> Seen | None:
        """`4 bits`, of a call that loads a model in so many."""
        config = self._names.origin(keyword(load, "quantization_config"))
        sources = [load]
        if isinstance(config, ast.Call):
            sources.append(config)
        for source in sources:
            for bits in ("load_in_4bit", "load_in_8bit"):
                given = keyword(source, bits)
                if given is not None and self._value(given) is True:
                    return Seen(f"{bits[8]} bits", given.lineno)
        return None

    def _merged_bits(self) -> Seen | None:
        for call in self._in_order:
            is_merge = last_name(call) in ("merge_and_unload", "merge_adapter")
            if not is_merge or not isinstance(call.func, ast.Attribute):
                continue
            made = self._made_by(call.func.value)
            bits = self.bits_of(made[-1]) if made else None
            if bits is not None:
                return Seen(bits.value, call.lineno)
        return None

    # Tokens of its own.

    def _untrained_tokens(self) -> Seen | None:
        """What adds tokens whose rows of the embedding no adapter trains."""
        names = self._names
        sets_itself = {"requires_grad", "modules_to_save", "trainable_token_indices"} & names.stored
        if not self._trainers or sets_itself or ".requires_grad_" in names.words or names.lost:
            return None
        configs = self._configs() + [c for c in self._loras() if c not in self._configs()]
        if not configs or self._idle_adapter():
            return None
        if any(map(self._may_train_embeddings, configs)):
            return None
        return self._tokenizer.new_tokens()

    def _may_train_embeddings(self, config: ast.Call) -> bool:
        if any(part.arg is None for part in config.keywords):
            return True
        for name in ("modules_to_save", "trainable_token_indices"):
            given = keyword(config, name)
            if given is not None and self._value(given) is not None:
                return True
        targets = self._targets_of(config)
        if targets is None:
            return True
        texts = [targets] if isinstance(targets, str) else targets
        return any(EMBEDDINGS.search(text) for text in texts)


def scale_of(alpha: float, rank: int, by_root: bool) -> float:
    """What an adapter's output is multiplied by: alpha / r, or alpha / sqrt(r) with rsLoRA."""
    return alpha / math.sqrt(rank) if by_root else alpha / rank


def is_none(node: ast.expr) -> bool:
    """Is it the word None?"""
    return isinstance(node, ast.Constant) and node.value is None
