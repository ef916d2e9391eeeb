"""The configuration of a run: every setting, its default and its range."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ramda_cli.config.augmentation import AUGMENT_PATTERN
from ramda_cli.errors import ConfigError

# Types are strict, so that `epochs: true` is not 1; YAML has no paths and no tuples, so these
# two take its text and its lists.
LenientPath = Annotated[Path, Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
]
Repository = Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$", description="ORG/NAME")]
SolverName = Literal["exact", "pg", "pg-unstopped"]
Penalize = Literal["consumers", "paper"]
Precision = Literal["fp32", "bf16", "fp16"]
Method = Literal["ramda", "rmda", "proxsgd", "proxgen", "proxssi", "taylor", "magnitude"]
TARGET_METHODS: Final = ("ramda", "taylor", "magnitude")
WEIGHT_METHODS: Final = ("ramda", "rmda", "proxsgd", "proxgen", "proxssi")
RegularizerName = Literal["group-lasso", "group-mcp"]
Layout = Literal["per-layer", "uniform"]
TaskName = Literal[
    "image-classification",
    "text-classification",
    "token-classification",
    "text-generation",
    "fill-mask",
    "text2text-generation",
    "feature-extraction",
    "masked-image-modeling",
]
ExportFormat = Literal["onnx", "torch-export", "timm", "hf"]
ExportLayout = Literal["per-layer", "dense"]
Augment = Annotated[
    str,
    Field(
        pattern=AUGMENT_PATTERN,
        description="auto, none or a policy of timm such as rand-m9-mstd0.5-inc1",
    ),
]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[float, Field(gt=0.0, description="a share in (0, 1] or a whole count above 1")]
Megabytes = Annotated[
    float, Field(gt=0.0, description="a share in (0, 1] or megabytes (10^6 bytes) above 1")
]
Milliseconds = Annotated[
    float, Field(gt=0.0, description="a share in (0, 1] or milliseconds above 1")
]


_LR = 1e-3


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False
    )


class ModelConfig(_Section):
    """Which model, and which weights.

    Attributes:
        name: a timm name, `hf-hub:org/name`, `path/to/file.py:factory`, or one that ships with
            the package: `digits-resnet`, `transformer-xl`, `tacotron2`.
        weights: a safetensors state dict to load over the model's own initialization.
        pretrained: whether a model of timm or transformers starts from its pretrained weights.
        arguments: over the model's own: of timm's constructor (`drop_path_rate: 0.1`), of the
            configuration of a transformers model (`attention_dropout: 0.0`).
        task: what a transformers model is to do, as pipelines call it; that of its architecture
            when not given.
    """

    name: Name
    weights: LenientPath | None = None
    pretrained: bool = True
    arguments: dict[str, Any] = {}
    task: TaskName | None = None


class DataConfig(_Section):
    """Which data, and how it is read.

    Attributes:
        name: `digits`, a directory of class folders, a parquet file or directory, `imagenet`,
            `torch/NAME` or a Hugging Face dataset id; for speech a directory that is laid out like
            LJSpeech.
        data_dir: where `imagenet` and `torch/NAME` are or are downloaded to, and where spectrograms
            are kept.
        train_split, val_split: split names, or parts of a table's, as `train[:90%]`; found when
            not given.
        input_key, target_key: column names; found when not given. Two columns of texts that
            belong together are written `question,answer`.
        batch_size: images per training step.
        eval_batch_size: images per evaluation step.
        workers: loader processes; 0 loads in the main process.
        image_size: square side in pixels; the model's own when not given.
        max_length: most tokens of a text; longer ones are cut, and what a language model reads is
            packed into blocks of that length. 128, for a language model 256, or the most that
            the model takes, when not given.
        streaming: whether training texts are read as they come and never stored, for a language
            model; goes with `training.max_steps`.
        augment: `auto` crops and flips as fits the image size, `none` trains on the evaluation
            transform, and an auto-augment policy of timm (`rand-m9-mstd0.5-inc1`, `augmix-m3`) does
            what `auto` does and is applied besides.
        random_erasing: probability that a rectangle of a training image is replaced by noise.
        mask_patch: side in pixels of the squares that are hidden of an image, where a model is to
            paint them: a multiple of its patches; 32 when not given.
        mask_ratio: share of the squares that are hidden, rounded up; 0.6 when not given.
        limit: use only so many training examples, a random subset, for a quick try; of running text
            its first segments, whose words are still those of all of it.
    """

    name: Name
    data_dir: LenientPath | None = None
    train_split: str | None = None
    val_split: str | None = None
    input_key: str | None = None
    target_key: str | None = None
    batch_size: Annotated[int, Field(ge=2)] = 128
    eval_batch_size: Annotated[int, Field(ge=1)] = 256
    workers: Annotated[int, Field(ge=0)] = 2
    image_size: Annotated[int, Field(ge=8)] | None = None
    max_length: Annotated[int, Field(ge=2)] | None = None
    streaming: bool = False
    augment: Augment = "auto"
    random_erasing: Probability = 0.0
    mask_patch: Annotated[int, Field(ge=1)] | None = None
    mask_ratio: Share | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class StructureConfig(_Section):
    """What may be removed.

    Attributes:
        penalize: which slices the regularizer sees.
        keep: glob patterns of dependency group names that are never removed.
        residual: whether widths that only RMSNorms normalise may shrink too.
        floor: share of every dimension that is kept whatever the target.
        round_to: of which every width that shrinks stays a multiple; 8 is what tensor cores like.
        layout: `uniform` keeps as many channels in each of a model's layers that are alike.
        low_rank: glob patterns of layers whose weights lose ranks in place of channels; an
            embedding only where its name is given whole.
    """

    penalize: Penalize = "consumers"
    keep: Names = ()
    residual: bool = False
    floor: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    layout: Layout = "per-layer"
    low_rank: Names = ()

    @model_validator(mode="after")
    def _ranks_have_no_setting(self) -> Self:
        if self.low_rank and self.layout == "uniform":
            raise ConfigError(
                "structure.low_rank makes two layers of one, which no library's configuration says",
                hint="leave out --layout uniform, or --low-rank",
            )
        return self


class TrainingConfig(_Section):
    """How the model is fine-tuned.

    Attributes:
        method: `ramda`; or, to compare with, `taylor` (gradual) or `magnitude` (one-shot L2), both
            under AdamW, to the same target and with the same proof; and with a weight `rmda`,
            `proxsgd`, `proxgen` (AdamW with a proximal step) or `proxssi`, as in the paper.
        epochs: passes over the training data, before the removal and after it.
        max_steps: optimizer steps in all: each of the epochs is then a part of a pass, in a new
            order; whole passes when not given.
        accumulate: batches of which one step's gradient is the mean.
        auto_batch: whether a batch that does not fit into memory is computed in parts, which are
            halved until one fits; a step's gradient is that of the whole.
        checkpointing: whether activations are computed again for the gradients, which needs less
            memory and more time; of models of transformers and timm that can.
        recover_epochs: how many of them come after the removal, on the smaller model. With a target
            all that follow the freeze, and with a weight none, when not given.
        lr: RAMDA's step size, decayed linearly to zero with a target; with a weight it follows
            `milestones` (the paper uses 1e-2 there). When not given, 1e-4 for models with attention
            and 1e-3 for others.
        warm_up: epochs, or a part of one, in which lr rises from zero.
        momentum: weight of the prox output in each new iterate, of RAMDA and RMDA.
        eps: added to RAMDA's preconditioner.
        weight_decay: of AdamW in `taylor`, `magnitude`, `proxgen` and `proxssi`, decoupled, and of
            SGD in `proxsgd`; 1e-2 with a target and 0 with a weight when not given.
        weight: regularization weight λ, the paper's way; excludes a target.
        rank_weight: weight of the nuclear norm of `structure.low_rank`; `weight` when not given.
        threshold_every: steps of which the first takes singular values; when not given 10 with a
            target and 1 with a weight.
        solver: of the subproblem, in `ramda` and `proxgen` with a weight: `pg` is the proximal
            gradient of the paper, which stops early; `pg-unstopped` takes all its iterations, 100,
            or 5 of ranks.
        regularizer: what the weight multiplies: `group-mcp` shrinks large channels less, or not.
        gamma: of `group-mcp`: at how many times the threshold of zero shrinking ends.
        milestones: epochs at which lr and eps shrink tenfold and the averages restart.
        freeze: share of the run after which a target's zero set no longer changes.
        label_smoothing: of the cross-entropy loss.
        mixup: α of the Beta(α, α) that blends each training image with another, labels too; 0 is
            off.
        cutmix: α of the Beta(α, α) that says how much of each image a rectangle of another
            replaces; 0 is off. With both, half of the batches are mixed each way.
        distill: weight of the divergence from the dense model's outputs; the cross-entropy has
            the rest. 0 trains on the labels alone. When not given, 0.9 with a target where the
            dense model has learned the task, else 0.
        temperature: at which the outputs are compared.
        ema: decay of an average of the weights over the recovery's steps, which becomes the result;
            none when not given.
        freeze_batch_norm: whether BatchNorm keeps the statistics that it came with.
        clip_norm: largest global gradient norm; none when not given.
        skip_limit: steps in a row whose loss or gradient is infinite or NaN, which are skipped. One
            more, or most steps of an epoch, and the last checkpoint is restored and half the step
            size taken; the third time the run ends.
        shard: whether each of several processes holds a part of the parameters, of their gradients
            and of the optimizer's state (FSDP2); with a target, for what fits no single device.
        precision: `bf16` and `fp16` compute the network in half precision with fp32 weights and
            state; with `fp16` the loss is scaled so that gradients neither vanish nor overflow.
        device: `auto` takes CUDA where there is one.
        seed: of weights, data order, augmentation and mixing.
    """

    method: Method = "ramda"
    epochs: Annotated[int, Field(ge=1)] = 10
    max_steps: Annotated[int, Field(ge=1)] | None = None
    accumulate: Annotated[int, Field(ge=1)] = 1
    auto_batch: bool = False
    checkpointing: bool = False
    recover_epochs: Annotated[int, Field(ge=0)] | None = None
    lr: Annotated[float, Field(gt=0.0)] | None = None
    warm_up: Annotated[float, Field(ge=0.0)] = 0.0
    momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    eps: Annotated[float, Field(gt=0.0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    weight: Annotated[float, Field(ge=0.0)] | None = None
    rank_weight: Annotated[float, Field(ge=0.0)] | None = None
    threshold_every: Annotated[int, Field(ge=1)] | None = None
    solver: SolverName = "exact"
    regularizer: RegularizerName = "group-lasso"
    gamma: Annotated[float, Field(ge=1.01)] = 3.0
    milestones: Epochs = ()
    freeze: Share = 0.15
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    distill: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    freeze_batch_norm: bool = False
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    skip_limit: Annotated[int, Field(ge=0)] = 10
    shard: bool = False
    precision: Precision = "fp32"
    device: Device = "auto"
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def step_size(self) -> float:
        """`lr`, or that of most models where it was left open."""
        return _LR if self.lr is None else self.lr

    @property
    def nuclear_weight(self) -> float:
        """`rank_weight`, or `weight` where it was left open; 0 with a target."""
        return self.rank_weight if self.rank_weight is not None else self.weight or 0.0

    @model_validator(mode="after")
    def _milestones_inside_the_run(self) -> Self:
        if self.max_steps is not None and self.max_steps < self.epochs:
            raise ConfigError(
                f"training.max_steps {self.max_steps} leaves no step for each of {self.epochs}"
                " epochs",
                hint=f"give --epochs {self.max_steps} or less",
            )
        ordered = all(first < second for first, second in pairwise(self.milestones))
        before = self.epochs - (self.recover_epochs or 0)
        if before < 1:
            raise ConfigError(
                f"training.recover_epochs {self.recover_epochs} leaves no epoch of {self.epochs}"
                " to decide which channels go",
                hint=f"give --recover-epochs {self.epochs - 1} or less, or more --epochs",
            )
        if not ordered or any(epoch >= before for epoch in self.milestones):
            shown = ", ".join(str(epoch) for epoch in self.milestones)
            removal = " before the removal" if self.recover_epochs else ""
            raise ConfigError(
                "training.milestones must be increasing epochs below training.epochs"
                f" ({self.epochs}){removal}, got {shown}",
                hint=f"for example --milestones {max(1, before // 2)}",
            )
        return self


class TargetConfig(_Section):
    """How small the model must become; with several targets all of them hold.

    An amount of at most 1 is a share of dense, otherwise it is absolute.

    Attributes:
        macs: multiply-accumulates of one input.
        params: trainable parameters.
        channels: removable channels.
        heads: attention heads, or groups of query heads that share keys and values.
        ffn: hidden units of feed-forward layers.
        body_macs: multiply-accumulates but those of a layer onto the vocabulary.
        body_params: parameters but those of the token embedding and such a layer.
        size_mb: bytes of the tensors in `model.safetensors`.
        latency: time of one input on the device of the run.
    """

    macs: Count | None = None
    params: Count | None = None
    channels: Count | None = None
    heads: Count | None = None
    ffn: Count | None = None
    body_macs: Count | None = None
    body_params: Count | None = None
    size_mb: Megabytes | None = None
    latency: Milliseconds | None = None

    @field_validator("macs", "params", "channels", "heads", "ffn", "body_macs", "body_params")
    @classmethod
    def _whole_above_one(cls, amount: float | None) -> float | None:
        if amount is not None and amount > 1 and not amount.is_integer():
            raise ValueError("an amount above 1 is a count")
        return amount

    @model_validator(mode="after")
    def _kinds_apart(self) -> Self:
        kinds = [name for name in ("heads", "ffn") if getattr(self, name) is not None]
        others = [name for name in self.amounts if name not in ("heads", "ffn")]
        if kinds and others:
            raise ConfigError(
                f"target {kinds[0]} says what of one kind stays, and {others[0].replace('_', '-')}"
                " what of the whole",
                hint="give heads and ffn, or one of the others",
            )
        return self

    @property
    def amounts(self) -> dict[str, float]:
        """What is asked for, by metric."""
        return {name: amount for name, amount in self if amount is not None}


class OutputConfig(_Section):
    """What is written.

    Attributes:
        directory: the output directory.
        overwrite: whether it may hold files of an earlier run.
        onnx: whether to write and check `model.onnx`.
        checkpoint_minutes: after which a checkpoint is written within an epoch; one is after each.
        bench: whether to measure latency at the end, for the report; about 10 seconds. With a
            target of latency it is measured whatever this says.
        report_to: trackers that get the metrics too: tensorboard, wandb, mlflow and others.
        push_to_hub: `ORG/NAME` on the Hugging Face hub, where the finished run is uploaded.
        public: whether a repository that is created there is open to everyone.
    """

    directory: LenientPath = Path("out")
    overwrite: bool = False
    onnx: bool = True
    checkpoint_minutes: Annotated[float, Field(ge=0.0)] = 10.0
    bench: bool = True
    report_to: Names = ()
    push_to_hub: Repository | None = None
    public: bool = False

    @model_validator(mode="after")
    def _public_what(self) -> Self:
        if self.public and self.push_to_hub is None:
            raise ConfigError(
                "output.public says how to push, and nothing is pushed",
                hint="give --push-to-hub ORG/NAME too",
            )
        return self


class RemoveConfig(_Section):
    """One run of `ramda remove`.

    Attributes:
        checkpoint: a safetensors state dict, or a directory with `config.json` beside one.
        model: as `ModelConfig.name`; the directory's own when not given.
        image_size: square side in pixels; the model's own when not given.
        data: on which accuracy is measured; none when not given.
        keep: glob patterns of dependency group names that are never removed.
        output: what is written.
    """

    checkpoint: LenientPath
    model: Name | None = None
    image_size: Annotated[int, Field(ge=8)] | None = None
    data: DataConfig | None = None
    keep: Names = ()
    output: OutputConfig = OutputConfig()


class RunConfig(_Section):
    """One run of `ramda prune`: either a target or a regularization weight says how much."""

    model: ModelConfig
    data: DataConfig
    structure: StructureConfig = StructureConfig()
    training: TrainingConfig = TrainingConfig()
    target: TargetConfig | None = None
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _one_way_to_say_how_much(self) -> Self:
        if self.target is not None and not self.target.amounts:
            raise ConfigError(
                "target asks for nothing", hint="for example target.macs=0.5 for half of the MACs"
            )
        if self.target is not None and self.training.weight is not None:
            raise ConfigError(
                "target and training.weight exclude each other",
                hint="give --target to ask for a size, or --weight to set the regularization",
            )
        ranks = self.training.rank_weight, self.training.threshold_every
        if not self.structure.low_rank and ranks != (None, None):
            raise ConfigError(
                "training.rank_weight and threshold_every are of weights that lose ranks, and none"
                " does",
                hint="name their layers with --low-rank, '*' for all",
            )
        if self.training.shard and (
            self.target is None or self.structure.low_rank or self.training.ema is not None
        ):
            raise ConfigError(
                "training.shard goes with a target, and neither with structure.low_rank nor with"
                " training.ema",
                hint="leave it out, or the others",
            )
        if self.training.shard and self.training.precision == "fp16":
            raise ConfigError(
                "training.shard does not scale the loss, as fp16 needs it",
                hint="give --precision bf16",
            )
        if self.target is not None and self.training.rank_weight is not None:
            raise ConfigError(
                "target and training.rank_weight exclude each other",
                hint="give --target to ask for a size, or --weight to set the regularization",
            )
        if self.target is not None and self.training.regularizer != "group-lasso":
            raise ConfigError(
                f"training.regularizer {self.training.regularizer} plays no part with a target,"
                " which shrinks nothing",
                hint="give --weight in place of --target, or --regularizer group-lasso",
            )
        method = self.training.method
        if method not in WEIGHT_METHODS and self.training.weight is not None:
            raise ConfigError(
                f"training.method {method} has no regularization weight",
                hint="give --target in place of --weight, or leave out --method",
            )
        if method not in TARGET_METHODS and self.target is not None:
            raise ConfigError(
                f"training.method {method} minimises a regularizer, and comes down to no target",
                hint="give --weight in place of --target, or leave out --method",
            )
        if method in ("ramda", "rmda") and self.training.weight_decay is not None:
            raise ConfigError(
                f"training.weight_decay plays no part in {method}, which averages gradients",
                hint="leave it out",
            )
        if self.training.solver != "exact" and (
            method not in ("ramda", "proxgen") or self.target is not None
        ):
            raise ConfigError(
                f"training.solver {self.training.solver} is for ramda and proxgen with a weight",
                hint="leave it out: what others solve has a closed form",
            )
        if self.data.streaming and self.training.max_steps is None:
            raise ConfigError(
                "data.streaming has no end, and training.max_steps sets none",
                hint="give --max-steps",
            )
        if self.target is None and self.training.weight is None:
            raise ConfigError(
                "nothing says how small the model must become",
                hint="give --target macs=0.5 to keep half of the MACs, or --weight 1e-4",
            )
        return self
