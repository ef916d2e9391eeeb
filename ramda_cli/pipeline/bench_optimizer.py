"""What a step of RAMDA costs, beside AdamW in the same process and on the same model."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import BenchError
from ramda_cli.models.loaded import Preprocessing
from ramda_cli.models.loading import load_model
from ramda_cli.observer import Observer
from ramda_cli.optimizers import RAMDA, LowRankPenalty, Penalty, penalties
from ramda_cli.optimizers.penalty import lay_out
from ramda_cli.pipeline.devices import choose_device, device_name
from ramda_cli.pipeline.ranks import choose_matrices
from ramda_cli.regularizers import GroupLasso, NuclearNorm
from ramda_cli.structure import discover

# Of fp32 parameters: gradient, state and parameter read, and what of them is written.
_ADAMW_BYTES = 28
_ONE_PASS_BYTES = 32
_TWO_PASS_BYTES = 44
_LR = 1e-3
_EVERY = 10

_Builder = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Arm:
    """One optimizer's figures.

    Attributes:
        name: as the table shows it.
        step_ms: median time of one optimizer step.
        step_ms_p90: nine of ten steps are faster.
        ratio: median over the rounds of the step's time over AdamW's in the same round.
        state_bytes: of optimizer state per parameter, the parameter itself not counted.
        moved_bytes: read or written per parameter by the passes of one step, corrections not
            counted; none where operations are not fused, and nobody counts.
        bandwidth_share: bytes moved per second over those of a copy.
        training_step_ms: median time of forward, backward and step together.
        training_ratio: the same over AdamW's.
    """

    name: str
    step_ms: float
    step_ms_p90: float
    ratio: float
    state_bytes: float
    moved_bytes: float | None
    bandwidth_share: float | None
    training_step_ms: float
    training_ratio: float


@dataclass(frozen=True)
class OptimizerBench:
    """The benchmark of one model on one device.

    Attributes:
        model: its name.
        device: the device's own name.
        threads: of torch, on a CPU.
        torch: its version.
        date: in UTC.
        params: parameters.
        tensors: in which these are stored.
        penalized: share of them that are in some group.
        groups: how many there are.
        batch: inputs of a training step.
        rounds: measured, after the warm-up.
        warm_up: rounds before these.
        copy_bytes_per_second: read and written by a copy within the device.
        zero_groups: share of groups that were zero at the end, with a group lasso.
        arms: AdamW first.
    """

    model: str
    device: str
    threads: int
    torch: str
    date: str
    params: int
    tensors: int
    penalized: float
    groups: int
    batch: int
    rounds: int
    warm_up: int
    copy_bytes_per_second: float
    zero_groups: float
    arms: tuple[Arm, ...]


def bench_optimizer(
    model: ModelConfig,
    *,
    device: str,
    observer: Observer,
    batch: int | None = None,
    image_size: int | None = None,
    rounds: int = 30,
    warm_up: int = 30,
    weight: float = 1e-5,
    reference: bool = False,
    low_rank: bool = False,
) -> dict[str, Any]:
    """Train copies of a model side by side on random inputs, and time every step.

    Args:
        model: what to train, as for `ramda prune`.
        device: `auto`, `cpu` or `cuda`.
        observer: is told of every round.
        batch: inputs of a step; 8 on a CPU and 256 elsewhere when not given.
        image_size: square side in pixels; the model's own when not given.
        rounds: how many are measured. In each, every optimizer takes one step, in turns first.
        warm_up: rounds before these. In its first steps RAMDA corrects more roots.
        weight: λ of the group lasso, and of the nuclear norm.
        reference: whether to time RAMDA in torch operations too.
        low_rank: whether to time RAMDA with a nuclear norm on every weight that could become two.

    Raises:
        ModelError: the model cannot be loaded.
        StructureError: it cannot be exported.
        TrainingError: the device is not there.
    """
    chosen = choose_device(device)
    loaded = load_model(model, image_size=image_size)
    observer.stage("discover", "exporting")
    found = discover(loaded.module, loaded.example_inputs)
    observer.stage("discover", f"{len(found.groups)} groups")
    penalized = penalties(found, GroupLasso(weight))
    batch = batch or (8 if chosen.type == "cpu" else 256)
    if not isinstance(loaded.preprocessing, Preprocessing):
        raise BenchError(
            f"{model.name} reads texts", hint="the benchmark trains models that see images"
        )
    if loaded.preprocessing.masking is not None:
        raise BenchError(
            f"{model.name} paints images", hint="the benchmark trains models that tell classes"
        )
    images = torch.rand(batch, *loaded.preprocessing.input_size, device=chosen)
    labels = torch.randint(loaded.num_classes, (batch,), device=chosen)
    builders = _builders(penalized, reference=reference)
    if low_rank:
        builders |= _low_rank_builders(loaded.module, weight)
    runs = [_Run(name, loaded.module, build, images, labels) for name, build in builders.items()]
    observer.stage("measure", f"{rounds} rounds of {len(runs)} optimizers")
    _measure(runs, rounds, warm_up, observer)
    copied = _copy_speed(runs[0].parameters, chosen)
    sizes = [p.numel() for p in runs[0].parameters]
    layout = lay_out(penalized, dict(loaded.module.named_parameters()))
    share = int(layout.sizes.sum()) / sum(sizes)
    bench = OptimizerBench(
        model=loaded.source.name,
        device=device_name(chosen),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        params=sum(sizes),
        tensors=len(sizes),
        penalized=share,
        groups=layout.channels,
        batch=batch,
        rounds=rounds,
        warm_up=warm_up,
        copy_bytes_per_second=copied,
        zero_groups=runs[1].zero_groups(),
        arms=tuple(_figures(run, runs[0], share, copied) for run in runs),
    )
    return asdict(bench)


class _Run:
    """One optimizer on its own copy of the model, and its times so far."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        build: Callable[[nn.Module], Optimizer],
        images: Tensor,
        labels: Tensor,
    ) -> None:
        self.name = name
        form = torch.channels_last if images.device.type == "cuda" else torch.preserve_format
        self._model = copy.deepcopy(model).train().to(images.device).to(memory_format=form)
        self._images, self._labels = images.to(memory_format=form), labels
        self._optimizer = build(self._model)
        self.steps: list[float] = []
        self.training: list[float] = []

    @property
    def parameters(self) -> list[Tensor]:
        return [*self._model.parameters()]

    @property
    def state_bytes(self) -> float:
        state = self._optimizer.state.values()
        held = sum(x.nbytes for each in state for x in each.values() if isinstance(x, Tensor))
        return held / sum(p.numel() for p in self.parameters)

    def zero_groups(self) -> float:
        optimizer = self._optimizer
        return (
            float(optimizer.solution_zero.float().mean()) if isinstance(optimizer, RAMDA) else 0.0
        )

    def step(self, *, measured: bool) -> None:
        """Train for one step."""
        started = self._now()
        self._optimizer.zero_grad()
        with self._autocast():
            loss = F.cross_entropy(self._model(self._images).float(), self._labels)
        loss.backward()
        computed = self._now()
        self._optimizer.step()
        ended = self._now()
        if measured:
            self.steps.append(ended - computed)
            self.training.append(ended - started)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._images.device.type == "cpu":
            return nullcontext()
        return torch.autocast(self._images.device.type, torch.bfloat16)

    def _now(self) -> float:
        if self._images.device.type == "cuda":
            torch.cuda.synchronize(self._images.device)
        return time.perf_counter()


def _builders(penalized: list[Penalty], *, reference: bool) -> dict[str, _Builder]:
    builders: dict[str, _Builder] = {
        "AdamW(fused=True)": lambda m: AdamW(m.parameters(), lr=_LR, fused=True),
        "RAMDA, group lasso": lambda m: RAMDA(m.named_parameters(), penalized, lr=_LR),
        "RAMDA, no regularizer": lambda m: RAMDA(m.named_parameters(), lr=_LR),
    }
    if reference:
        builders["RAMDA in torch operations"] = lambda m: RAMDA(
            m.named_parameters(), penalized, lr=_LR, fused=False
        )
    return builders


def _low_rank_builders(model: nn.Module, weight: float) -> dict[str, _Builder]:
    matrices = choose_matrices(model, ["*"])
    norms = [LowRankPenalty(each.parameter, NuclearNorm(weight)) for each in matrices]

    def build(every: int, model: nn.Module) -> Optimizer:
        optimizer = RAMDA(model.named_parameters(), norms, lr=_LR)
        optimizer.threshold_every = every
        return optimizer

    return {
        "RAMDA, nuclear norm": partial(build, 1),
        f"RAMDA, nuclear norm, singular values every {_EVERY} steps": partial(build, _EVERY),
    }


def _measure(runs: Sequence[_Run], rounds: int, warm_up: int, observer: Observer) -> None:
    observer.train_start(rounds + warm_up, 1)
    for number in range(rounds + warm_up):
        # In turns first: whoever follows finds the caches as another left them.
        first = number % len(runs)
        for run in (*runs[first:], *runs[:first]):
            run.step(measured=number >= warm_up)
        observer.train_step(number + 1, {})
    observer.train_end()


def _copy_speed(parameters: Sequence[Tensor], device: torch.device) -> float:
    """Return the bytes that a copy as large as the parameters moves per second, at best."""
    source = torch.ones(max(1 << 22, sum(p.numel() for p in parameters)), device=device)
    target = torch.empty_like(source)
    fastest = math.inf
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * source.nbytes / fastest


def _figures(run: _Run, baseline: _Run, penalized: float, copied: float) -> Arm:
    step = median(run.steps)
    moved = {
        "AdamW(fused=True)": _ADAMW_BYTES,
        "RAMDA, group lasso": penalized * _TWO_PASS_BYTES + (1 - penalized) * _ONE_PASS_BYTES,
        "RAMDA, no regularizer": _ONE_PASS_BYTES,
    }.get(run.name)
    params = sum(p.numel() for p in run.parameters)
    return Arm(
        name=run.name,
        step_ms=1e3 * step,
        step_ms_p90=1e3 * quantiles(run.steps, n=10)[-1],
        ratio=median(a / b for a, b in zip(run.steps, baseline.steps, strict=True)),
        state_bytes=run.state_bytes,
        moved_bytes=moved,
        bandwidth_share=None if moved is None else moved * params / step / copied,
        training_step_ms=1e3 * median(run.training),
        training_ratio=median(a / b for a, b in zip(run.training, baseline.training, strict=True)),
    )
