"""A training job: a frozen spec goes in, a stream of events comes out; state is derived from the events."""
from typing import Annotated, Literal, NewType, Self

from pydantic import Field, TypeAdapter, model_validator

from feinschliff.core.chat import Wire

JobId = NewType("JobId", str)
Precision = Literal["auto", "bf16", "fp32"]
Sharding = Literal["none", "full"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
Auto = Literal["auto"]
Grouping = Literal["step", "epoch"]
Library = Literal["blas", "onednn"]  # that multiplies float32 matrices


class Lora(Wire):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): W + scale · B A on the named projections.

    `qlora` (Dettmers et al. 2023, arXiv 2305.14314) holds W in 4 bits while it trains.
    """

    kind: Literal["lora", "qlora"] = "lora"
    rank: int = Field(16, ge=1, le=512)
    alpha: float = Field(32.0, gt=0)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    rslora: bool = False  # Kalajdzievski 2023, arXiv 2312.03732: an update that does not shrink as the rank grows
    dora: bool = False  # Liu et al. 2024, arXiv 2402.09353: each output's length is trained apart from its direction

    @property
    def scale(self) -> float:
        """alpha / rank, or alpha / √rank for rsLoRA."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


class Full(Wire):
    """Every weight of the model is trained."""

    kind: Literal["full"] = "full"


Method = Annotated[Lora | Full, Field(discriminator="kind")]


class Hyperparameters(Wire):
    """How long and how fast the model learns. What is "auto" follows from the data, the model and the method (`train.auto`)."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = 3
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = 16  # examples per optimizer step
    learning_rate: Annotated[float, Field(gt=0)] | Auto = 1e-3
    learning_rate_multiplier: float = Field(1.0, gt=0)  # of a rate left to "auto"
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)  # part of all steps
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)


class ResolvedHyperparameters(Wire):
    """What a run trains with: no "auto" is left, and `reasons` say where the numbers come from."""

    n_epochs: int
    batch_size: int
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    reasons: tuple[str, ...] = ()


class EarlyStopping(Wire):
    """Training ends when the validation loss has not fallen by more than `min_delta` in `patience` validations."""

    patience: int = Field(3, ge=1)
    min_delta: float = Field(0.0, ge=0)


class TrainSpec(Wire):
    """`RUN_DIR/spec.json`, all that `python -m feinschliff.train RUN_DIR` knows. Paths are absolute or relative to RUN_DIR.

    `train_files` are row-aligned variants of the same examples in different contexts (bare, with retrieved documents …):
    batch b of epoch e is read from file (b + e) mod len(train_files). Naming a file twice doubles its share. Usually there is one.
    """

    model: str  # folder with config.json, model.safetensors, tokenizer.json
    train_files: tuple[str, ...] = Field(min_length=1)
    validation_file: str | None = None
    method: Method = Lora()
    # A LoRA run may begin with an adapter that was trained before (its folder); the optimizer and the schedule begin anew.
    start_adapter: str | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    max_tokens: int | None = None  # longer examples are refused by name; None: the model's own limit
    precision: Precision = "auto"
    device: DeviceChoice = "auto"  # "auto": a CUDA device where there is one; several ranks on a machine take one each
    seed: int = 0
    save_every_steps: int = Field(25, ge=1)  # rolling resume state between the epoch checkpoints
    sharding: Sharding = "none"  # several ranks, full fine-tuning: "full" keeps only a slice of the weights in each
    # Tokens computed in one forward pass; bounds memory, not the result. "auto": as many as fit into the free memory.
    budget_tokens: Annotated[int, Field(ge=64)] | Auto = "auto"
    # Decoder layers run again in the backward pass: a third slower, in a fraction of the memory. "auto": if needed.
    gradient_checkpointing: bool | Auto = "auto"
    grouping: Grouping = "step"  # "epoch": examples with long common prefixes come into the same steps
    validate_every_steps: int | None = Field(None, ge=1)  # None: after every epoch; always after the last step
    early_stopping: EarlyStopping | None = None
    keep_best: bool = False  # the result is the model of the lowest validation loss, not the last one
    lr_probe: bool = False  # a range probe before the first step chooses the rate; learning_rate is the middle of its range

    @model_validator(mode="after")
    def _method_agrees(self) -> Self:
        if self.sharding == "full" and not isinstance(self.method, Full):
            raise ValueError('sharding = "full" is for full fine-tuning (method.kind = "full"); an adapter\'s base is not sharded.')
        if self.start_adapter is not None and isinstance(self.method, Full):
            raise ValueError("start_adapter is for LoRA; full fine-tuning goes on from a whole model's folder, named as the model.")
        return self


class MatrixSpeed(Wire):
    """Matrix products alone on the model's own shapes: the best of a few, FLOP/s."""

    bf16: float
    fp32: float  # through BLAS
    fp32_onednn: float = 0.0  # 0: not there, or the log of an earlier version

    def of(self, precision: str, library: Library = "blas") -> float:
        if precision == "bf16":
            return self.bf16
        return self.fp32_onednn if library == "onednn" else self.fp32


class Started(Wire):
    kind: Literal["started"] = "started"
    total_steps: int
    first_step: int  # 0, or where a resumed run goes on
    n_examples: int
    n_too_long: int
    too_long_lines: tuple[int, ...] = ()  # 1-based lines of the training file, the first 20
    precision: str
    trainable_parameters: int
    # Logs of earlier versions lack what follows.
    budget_tokens: int | None = None
    gradient_checkpointing: bool = False
    precision_reason: str = ""
    speed: MatrixSpeed | None = None
    fp32_library: Library = "blas"  # of fp32 products with frozen weights
    device: str = "cpu"  # or the GPU's name
    quantisation_error: float | None = None  # of a base held in 4 bits: |W' - W| / |W| over its weights
    hyperparameters: ResolvedHyperparameters | None = None


class LrProbe(Wire):
    """A learning-rate range probe, made once before the first step."""

    kind: Literal["lr_probe"] = "lr_probe"
    learning_rate: float  # the run's
    reason: str
    curve: tuple[tuple[float, float], ...]  # (rate, loss before the update with it)
    seconds: float


class Step(Wire):
    kind: Literal["step"] = "step"
    step: int  # 1-based, after the update
    total_steps: int
    epoch: float
    train_loss: float
    train_token_accuracy: float
    learning_rate: float
    grad_norm: float
    trained_tokens: int  # in this step
    logical_tokens: int  # as if every example were computed alone
    computed_tokens: int  # after prefix sharing
    seconds: float
    eta_s: float
    # 0 in logs of earlier versions
    logical_tokens_per_s: float = 0.0
    computed_tokens_per_s: float = 0.0
    trained_tokens_per_s: float = 0.0
    flops_per_s: float = 0.0  # of matrix products with weights, see train.flops
    speed_fraction: float = 0.0  # flops_per_s by the measured speed of the run's precision
    memory_bytes: int = 0  # resident after the step


class Validation(Wire):
    kind: Literal["validation"] = "validation"
    step: int
    valid_loss: float
    valid_token_accuracy: float
    n_tokens: int


class Checkpoint(Wire):
    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str  # relative to RUN_DIR


class Finished(Wire):
    kind: Literal["finished"] = "finished"
    step: int
    trained_tokens: int  # over all epochs, resumed parts counted once
    path: str  # the model or adapter folder, relative to RUN_DIR
    seconds: float
    peak_memory_bytes: int
    best_step: int | None = None  # of the lowest validation loss; with keep_best, `path` holds that step's model
    best_valid_loss: float | None = None
    stopped_early: bool = False


class Failed(Wire):
    kind: Literal["failed"] = "failed"
    code: str
    message: str
    hint: str = ""


class Told(Wire):
    """What a remote provider says of a job in words of its own."""

    kind: Literal["told"] = "told"
    id: str  # the provider's
    message: str
    level: Literal["info", "warn", "error"] = "info"


TrainEvent = Annotated[
    Started | LrProbe | Step | Validation | Checkpoint | Finished | Failed | Told, Field(discriminator="kind")
]
TRAIN_EVENT: TypeAdapter[TrainEvent] = TypeAdapter(TrainEvent)
