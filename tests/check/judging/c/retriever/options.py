from dataclasses import dataclass, field


@dataclass
class TrainingArguments:
    """Options of this package's own loop (plain torch)."""

    output_dir: str
    epochs: int = 1
    train_batch_size: int = 64
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.1
    temperature: float = 0.02
    negatives_per_query: int = 7
    gather_negatives: bool = True
    query_max_len: int = 64
    passage_max_len: int = 256
    evaluation_strategy: str = "epoch"
    overwrite_output_dir: bool = False
    no_cuda: bool = False
    hooks: list = field(default_factory=list)
