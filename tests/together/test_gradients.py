"""The gradient of a step that processes take together, each on its part of the batch."""

from pathlib import Path

import torch
from torch import Tensor

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.observer import SilentObserver
from ramda_cli.tasks import TEXT_TO_SPEECH
from ramda_cli.tasks.inputs import rows_of
from ramda_cli.training.gradients import Gradients
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective
from ramda_cli.training.processes import join
from tests.together.forked import together
from tests.training.problems import CPU, Speaker, utterances


def gradients_of_speech() -> list[Tensor]:
    """Return this process's loss and gradients of its share of eight ragged utterances."""
    processes, model, config = join(), Speaker(0), TrainingConfig()
    inputs, targets = utterances((9, 1, 8, 3, 1, 7, 2, 1))
    size = len(targets) // processes.count
    rows = slice(size * processes.rank, size * (processes.rank + 1))
    of = Gradients(
        config, Objective(model, config, TEXT_TO_SPEECH), Mixing(config, classes=0),
        accumulate=1, device=CPU, observer=SilentObserver(), processes=processes,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = of.compute(model, optimizer, [(1, (rows_of(inputs, rows), targets[rows]))], 1)
    assert loss is not None
    return [loss, *(p.grad for p in model.parameters() if p.grad is not None)]


def test_processes_weigh_as_many_frames_as_they_have(tmp_path: Path) -> None:
    expected = gradients_of_speech()
    for found in together(2, gradients_of_speech, folder=tmp_path):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
