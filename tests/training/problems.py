"""Small models and data to train on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ramda_cli.config.schema import DataConfig, TrainingConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import Batches, DataBundle
from ramda_cli.models.loaded import Preprocessing
from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers import penalties
from ramda_cli.structure import Structure, discover, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.tasks import IMAGE_CLASSIFICATION
from ramda_cli.training import Budget, Epoch, Trained, Training, evaluate
from ramda_cli.training.regularizer import build_regularizer

CPU = torch.device("cpu")


class Net(nn.Module):
    """Two convolutions with BatchNorm and a head, for 8 x 8 grey images."""

    def __init__(self, widths: tuple[int, int] = (12, 16)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(widths[1])
        self.fc = nn.Linear(widths[1] * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Speaker(nn.Module):
    """Frames, corrected frames and stop logits that one linear layer reads off mels of width 4."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 9)

    def forward(self, text: Tensor, mels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before, after, stops = self.layer(mels).split([4, 4, 1], dim=2)
        return before, after, stops[..., 0]


def utterances(lengths: Sequence[int]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return texts and mels of so many frames, the longer the louder, and their targets."""
    draws = torch.Generator().manual_seed(0)
    mels = [frames * torch.randn(frames, 4, generator=draws) for frames in lengths]
    stops = [torch.arange(1, frames + 1)[:, None] == frames for frames in lengths]
    aims = [torch.cat(pair, dim=1) for pair in zip(mels, stops, strict=True)]
    text = torch.ones(len(mels), 2, dtype=torch.int64)
    inputs = text, pad_sequence(mels, batch_first=True)
    return inputs, pad_sequence(aims, batch_first=True, padding_value=torch.nan)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def structure_of(model: nn.Module) -> Structure:
    return discover(model, torch.zeros(2, 1, 8, 8))


def digits(
    seed: int = 0, *, limit: int = 256, batch_size: int = 32, augment: str = "auto"
) -> DataBundle:
    preprocessing = Preprocessing((1, 8, 8), mean=(0.305,), std=(0.376,))
    return build_data(
        DataConfig(name="digits", batch_size=batch_size, limit=limit, augment=augment),
        preprocessing,
        seed=seed,
    )


def accuracy(model: nn.Module, batches: Batches) -> float:
    return evaluate(model, IMAGE_CLASSIFICATION, batches, device=CPU)


class Recorder(SilentObserver):
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.epochs: list[tuple[int, dict[str, float]]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def train_step(self, step: int, values: Any) -> None:
        self.steps.append((step, dict(values)))

    def validated(self, epoch: int, values: Any) -> None:
        self.epochs.append((epoch, dict(values)))


def training_of(
    model: nn.Module,
    config: TrainingConfig,
    *,
    budget_of: Callable[[CostModel], Budget] | None = None,
    after_epoch: Callable[[Epoch], None] = lambda _: None,
    data: DataBundle | None = None,
    observer: SilentObserver | None = None,
    **callbacks: Any,
) -> tuple[Training, Structure, CostModel]:
    """Prepare to train `model` in place, with a budget or with the weight of `config`."""
    structure = structure_of(model)
    cost = CostModel(structure)

    def macs_share() -> float:
        kept = cost.kept(identify(model, structure).removable)
        return cost.macs(kept) / cost.macs(cost.channels)

    training = Training(
        model,
        penalties(structure, build_regularizer(config)),
        data or digits(config.seed),
        config,
        budget=None if budget_of is None else budget_of(cost),
        macs_share=macs_share,
        device=CPU,
        observer=observer or SilentObserver(),
        after_epoch=after_epoch,
        **callbacks,
    )
    return training, structure, cost


def run(
    model: nn.Module, config: TrainingConfig, **options: Any
) -> tuple[Trained, Structure, CostModel]:
    """Train `model` in place to the end; what is zero stays in it."""
    training, structure, cost = training_of(model, config, **options)
    training.prune()
    if training.epochs_left:
        training.go_on()
    return training.result(), structure, cost
