"""What a training run leaves in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """What was measured after an epoch; epoch 0 is before training.

    Attributes:
        loss: mean training loss over the epoch; None before training.
        metric: the task's, on the validation data.
        group_sparsity: share of penalized entries in zero channels; None where no channel may go.
        macs_share: MACs without these channels, as a share of dense.
        lr: at the end of the epoch.
        certificate: norm of the smallest subgradient of the last subproblem at its solution; None
            where there was none to solve.
        zero_set_change: share of channels that became zero or revived in this epoch.
        low_rank_level: 1 - Σ ranks / Σ full ranks; None where no weight may lose ranks.
        skipped_steps: that were not taken, as loss or gradient was infinite or NaN.
    """

    epoch: int
    metric: float
    loss: float | None = None
    group_sparsity: float | None = None
    macs_share: float = 1.0
    lr: float | None = None
    certificate: float | None = None
    zero_set_change: float | None = None
    low_rank_level: float | None = None
    skipped_steps: int = 0

    @property
    def shown(self) -> dict[str, float]:
        """What a run's progress shows of it."""
        values = {
            "loss": self.loss,
            "metric": self.metric,
            "group_sparsity": self.group_sparsity,
            "low_rank_level": self.low_rank_level,
            "macs_share": self.macs_share,
            "lr": self.lr,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Trained:
    """A finished training run.

    Attributes:
        method: what trained it, for the report.
        history: one entry per epoch.
        steps: optimizer steps.
        seconds: wall clock.
        zero_set_stability: overlap (Jaccard) of the zero set at the freeze and at the end; None
            without a target.
        removal_epoch: after which the zero channels were taken out; None where after the last.
    """

    method: str
    history: tuple[Epoch, ...]
    steps: int
    seconds: float
    zero_set_stability: float | None
    removal_epoch: int | None = None
