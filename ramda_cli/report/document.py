"""The report of a run as a JSON document with a stable shape and key order.

Shares and accuracies are in [0, 1], times in seconds, sizes in bytes. A number that was not
measured, or is not finite, is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """Which model.

    Attributes:
        kind: `timm`, `huggingface`, `file` or `package`.
        weights: where they came from.
        license: of these weights, as the hub abbreviates it; null where it is not known.
    """

    name: str
    kind: str
    weights: str
    classes: int
    license: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataEntry:
    """Which data.

    Attributes:
        fingerprint: changes when the data does.
        hub_id: of a data set from the Hugging Face hub.
    """

    description: str
    fingerprint: str
    train_size: int
    val_size: int
    hub_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked for: targets, or a regularization weight.

    All are null or empty where the zeros of a finished checkpoint were to go.

    Attributes:
        metric, amount: the first target: what is counted, and how much of it is to be left, a
            share of dense when at most 1.
        amounts: all targets, by metric.
        weight: of the regularizer, where no target was given.
        regularizer: `group-lasso` or `group-mcp`; null where nothing was shrunk.
        round_to: of which widths that shrank are multiples.
        layout: `uniform` where layers that are alike are as wide as each other.
        low_rank: patterns of the layers that were to lose ranks in place of channels.
        rank_weight: of their nuclear norm, where no target was given.
    """

    metric: str | None = None
    amount: float | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)
    weight: float | None = None
    regularizer: str | None = None
    round_to: int = 1
    layout: str = "per-layer"
    low_rank: tuple[str, ...] = ()
    rank_weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What came out, in the unit of the request.

    Attributes:
        metric: what is counted; `macs` when only a weight was asked for.
        share: what is left, as a share of dense.
        count: the same as a count; of `size_mb` in bytes, of `latency` in nanoseconds.
        requested_count: what was asked for as a count.
        relative_deviation: (count - requested_count) / requested_count.
        met: whether the request was met; a latency, which is measured, up to 10 % above it.
    """

    metric: str
    share: float
    count: int
    requested_count: int | None = None
    relative_deviation: float | None = None
    met: bool


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is; `bytes` counts its tensors, as a safetensors file holds them."""

    params: int
    macs: int
    channels: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The model before and after the removal."""

    dense: Size
    pruned: Size


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One metric on the validation data, along the run.

    Attributes:
        metric: its name, for example `top-1 accuracy`.
        is_share: whether it is in [0, 1]; perplexity, for one, is not.
        higher_is_better: whether more of it is.
        hub_id: as the Hugging Face hub calls it.
        dense: the pretrained model before training; null when its head was replaced.
        before_removal: the trained model.
        after_removal: the smaller model.
        recovered: the smaller model after it was trained further; null where it was not.
        reloaded: the smaller model, loaded afresh from the written file.
        onnx: `model.onnx` in ONNX Runtime; null when it was not written.
    """

    metric: str
    dense: float | None = None
    before_removal: float
    after_removal: float
    recovered: float | None = None
    reloaded: float | None = None
    onnx: float | None = None
    is_share: bool = True
    higher_is_better: bool = True
    hub_id: str = "accuracy"

    @property
    def final(self) -> float:
        """The model that is in the files."""
        return self.after_removal if self.recovered is None else self.recovered


@dataclass(frozen=True, kw_only=True)
class TimingEntry:
    """How long one model takes for a batch.

    Attributes:
        median_ms, p90_ms: of the calls; nine of ten are faster than the second.
        inputs_per_second: inputs of a batch over the median.
        peak_bytes: of the device's memory during a call, weights included; null off CUDA.
    """

    median_ms: float
    p90_ms: float
    inputs_per_second: float
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class RatioEntry:
    """The median of paired ratios, and the quartiles around it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LatencyEntry:
    """Both models in one runtime at one batch size, timed in turns.

    Attributes:
        runtime: `eager` and `compile` are torch's, `onnx` is ONNX Runtime.
        rounds: turns of each model.
        dense: the model with all its channels; null when it was not measured.
        speedup: time of the dense model over that of the pruned one; null as `dense`.
    """

    runtime: str
    batch_size: int
    rounds: int
    dense: TimingEntry | None = None
    pruned: TimingEntry
    speedup: RatioEntry | None = None


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How fast the model is on one machine; `device` is its maker's name, `threads` the CPU's."""

    device: str
    threads: int
    measurements: tuple[LatencyEntry, ...]


@dataclass(frozen=True, kw_only=True)
class CheckEntry:
    """One comparison of outputs; `inputs` counts the samples compared."""

    name: str
    dtype: str
    max_abs_difference: float | None
    relative_difference: float | None
    tolerance: float
    inputs: int
    passed: bool


@dataclass(frozen=True, kw_only=True)
class ProofEntry:
    """Every comparison of the smaller model with the trained one."""

    passed: bool
    checks: tuple[CheckEntry, ...]


@dataclass(frozen=True, kw_only=True)
class GroupEntry:
    """A dependency group, how many of its channels were kept, and what was sliced.

    Attributes:
        held: channels that were zero and stay, so that no tensor becomes empty, or of a size that
            an operator does not take or that was not asked for.
    """

    name: str
    channels: int
    kept: int
    parameters: tuple[str, ...]
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class FixedEntry:
    """Channels that may not be removed, and the operator that forbids it."""

    name: str
    reason: str
    operator: str
    channels: int


@dataclass(frozen=True, kw_only=True)
class LayerEntry:
    """A layer's weight: how wide its output is before the removal, and after it.

    Attributes:
        name: of the layer, or of the weight where the layer has several.
        kind: the layer's class.
        width: outputs, before.
        kept: outputs, after.
        groups: the dependency groups that these outputs belong to.
    """

    name: str
    kind: str
    width: int
    kept: int
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MatrixEntry:
    """A weight that could lose ranks.

    Attributes:
        name: of the parameter, as it was.
        rows, cols: of the matrix.
        full_rank: the largest rank that it could have.
        rank: what the training left.
        factorized: whether the layer is two now.
        reason: why it is not; null where it is.
        before, after: singular values of the model that training began with, and of the one in the
            files, the largest first; at most 64 of them, evenly picked.
    """

    name: str
    rows: int
    cols: int
    full_rank: int
    rank: int
    factorized: bool
    reason: str | None = None
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EpochEntry:
    """The state after one epoch.

    Attributes:
        zero_set_change: share of channels that became zero or revived in this epoch.
        low_rank_level: 1 - Σ ranks / Σ full ranks; null where no weight could lose ranks.
        skipped_steps: that were not taken, as loss or gradient was infinite or NaN.
    """

    epoch: int
    loss: float | None = None
    metric: float | None = None
    group_sparsity: float | None = None
    macs_share: float | None = None
    lr: float | None = None
    certificate: float | None = None
    zero_set_change: float | None = None
    low_rank_level: float | None = None
    skipped_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingEntry:
    """How the model was trained.

    Attributes:
        seconds: it took; null in the header of `model.safetensors`.
        zero_set_stability: share of the final zero groups that were zero at the freeze.
        removal_epoch: after which the zero channels were taken out; null where after the last.
    """

    method: str
    epochs: int
    steps: int
    seconds: float | None
    history: tuple[EpochEntry, ...] = ()
    zero_set_stability: float | None = None
    removal_epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the output directory."""

    name: str
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reproducibility:
    """What it takes to run this again.

    Attributes:
        date: when the run began; null in the header of `model.safetensors`.
    """

    config: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    device: str
    date: str | None
    command: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a run tells.

    Attributes:
        data, accuracy: null where no data was given.
        training: null where nothing was trained.
        reached: of the first target.
        further: of any others.
        latency: null when it was not measured; the documents of early versions lack it.
        layout: what the file loads as.
        matrices: weights that could lose ranks; the documents of early versions lack it.
    """

    schema: Literal[1] = SCHEMA
    model: ModelEntry
    data: DataEntry | None
    asked: Asked
    reached: Reached
    further: tuple[Reached, ...] = ()
    size: Sizes
    accuracy: Accuracy | None
    latency: Latency | None = None
    proof: ProofEntry
    groups: tuple[GroupEntry, ...]
    fixed: tuple[FixedEntry, ...]
    layers: tuple[LayerEntry, ...] = ()
    matrices: tuple[MatrixEntry, ...] = ()
    training: TrainingEntry | None
    layout: str
    files: tuple[FileEntry, ...]
    notes: tuple[str, ...] = ()
    reproducibility: Reproducibility

    @property
    def met(self) -> bool:
        """Whether every request was met."""
        return all(reached.met for reached in (self.reached, *self.further))


def without_times(report: Report) -> Report:
    """Return a report without when the run was and how long it took."""
    training = report.training and replace(report.training, seconds=None)
    return replace(
        report,
        training=training,
        reproducibility=replace(report.reproducibility, date=None),
    )
