"""What a file says of a run beside the values of its training arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpkit.preflight.forms import Form

#: Who says which versions are installed: the file itself.
ITSELF = "this file installs"
#: Who says a version that is the best guess: it excuses old names, and accuses no new one.
ELSEWHERE = "another folder of its project asks for"
#: Who says it in a repository none of whose files does: whether the newest runs a script, or one of
#: the year in which it was written, nobody can tell.
NOWHERE = "no file here asks for"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the code around a call says of model, tokenizer and data; None where it says nothing.

    Of an adapter:
    `adapter`: what makes one, as LoraConfig.
    `idle_adapter`: the configuration of one that no model gets.
    `soft_prompt`: the configuration of one that is no LoRA, but learns inputs or scales, where the
        file has no other.
    `adapter_rank`: r. `adapter_scale`: what its output is multiplied by, alpha / r, or, `by_root`,
        alpha / sqrt(r).
    `target_modules`: the names of the layers that get it, or a pattern.
    `frozen_adapter`: what loads one to be read alone, where a trainer is to train it.
    `fp16_adapter`: what makes the trained one's weights float16.
    `merged_bits`: how many bits the model has that it is merged into.
    `untrained_tokens`: what adds tokens to the tokenizer, where it trains no embedding.

    Of the model:
    `model_name`: what it is loaded by.
    `weights`: the format that it is loaded in, as float16; `weights_argument`: the word for it,
        dtype or torch_dtype.
    `quantized`: how many bits it is loaded in, as `4 bits`.
    `frozen_weights`: either of the two, of the model beside which an adapter trains.
    `bits_argument`: load_in_4bit or its like, given to from_pretrained itself.

    Of data and tokenizer:
    `streaming`: the training data come as a stream.
    `examples`: how many training examples the text says there are.
    `pad_is_eos`: the collator masks the padding token, and it is the end mark.
    `added_tokens`: what adds tokens to the tokenizer, where nothing resizes the embedding.
    `rows_to_spare`: False where the file names a model whose embedding has none for them.

    Of the run:
    `logits_kept`: metrics are computed from a language model's logits, all of them kept until the
        end of an evaluation.
    `metrics`: what compute_metrics returns, nothing where there is none.
    `other_loss`: a trainer that the file makes whose loss imitates no text, as DPOTrainer.
    `own_loop`: what shows that the file trains without a Trainer, as `import jax`.
    `named_checkpoint`: one that the file names, to load it.
    `halves_swapped`: fp16 is on where there is bf16, and the other way round.
    `together`: pairs of keys that the tool refuses beside each other.
    `gone_imports`: (package, name, newest version that the file would run with) of what the library
        no longer has.
    `unread_fields`: fields of a subclass that the library read once, and that nothing reads today.
    `processes`: on how many devices a launch line starts the run.
    """

    adapter: str | None = None
    idle_adapter: str | None = None
    soft_prompt: str | None = None
    weights: str | None = None
    weights_argument: str | None = None
    quantized: str | None = None
    frozen_weights: str | None = None
    bits_argument: str | None = None
    streaming: bool | None = None
    examples: int | None = None
    pad_is_eos: str | None = None
    added_tokens: str | None = None
    rows_to_spare: bool | None = None
    logits_kept: str | None = None
    metrics: tuple[str, ...] | None = None
    model_name: str | None = None
    other_loss: str | None = None
    own_loop: str | None = None
    named_checkpoint: str | None = None
    adapter_scale: float | None = None
    by_root: bool | None = None
    adapter_rank: int | None = None
    target_modules: tuple[str, ...] | str | None = None
    frozen_adapter: str | None = None
    fp16_adapter: str | None = None
    merged_bits: str | None = None
    untrained_tokens: str | None = None
    halves_swapped: bool | None = None
    together: tuple[tuple[str, str], ...] | None = None
    gone_imports: tuple[tuple[str, str, str], ...] | None = None
    unread_fields: tuple[str, ...] | None = None
    processes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """How the settings stand in a file, as `hpkit.check` finds it.

    `name`: the callable that they are given to. `origin`: the package whose fields judge them; ""
    where nobody can tell, and then only what is given counts. `unread`: arguments that the text
    does not tell, an unpacked mapping as `**name`, positional ones as `*args`. `set_elsewhere`:
    what is set after the call, or is a default of the script that a line starts. `optional`:
    arguments that get a parameter or an option, whose default alone is known. `unseeded`: what
    builds random weights before a seed is set. `unsloth`: the file imports Unsloth, which patches
    TRL. `pins`: package -> the versions that are installed, by whom `pinned_by` says. `tool`: what
    reads the file, where it is no Python. `fields`: arguments that the file's own classes, or the
    tool's, take beside the origin's; `refuses_unknown`: there are no others. `has_own_fields`:
    there may be. `explained`: arguments on whose line a comment stands. `foreign_words`: keys that
    the tool calls otherwise, and does not read. `form`: how changes are written into the file.
    """

    name: str = "TrainingArguments"
    origin: str = "transformers"
    unread: tuple[str, ...] = ()
    set_elsewhere: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    unseeded: str | None = None
    unsloth: bool = False
    pins: Mapping[str, str] = field(default_factory=dict)
    pinned_by: str = ITSELF
    tool: str = ""
    fields: frozenset[str] = frozenset()
    refuses_unknown: bool = False
    has_own_fields: bool = False
    explained: frozenset[str] = frozenset()
    foreign_words: tuple[str, ...] = ()
    form: Form = field(default_factory=Form)
    around: Surroundings = field(default_factory=Surroundings)

    @property
    def is_trainer(self) -> bool:
        """Whether it is a trainer's own call; the arguments it trains by stand in another."""
        return self.name.endswith("Trainer")
