"""Steps over parts of passes, and on the mean gradient of several batches."""

import pytest
import torch
from torch import nn

from ramda_cli.config.schema import TargetConfig, TrainingConfig
from ramda_cli.errors import ConfigError, TrainingError
from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers import RAMDA
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import Budget, plan_budget
from ramda_cli.training.memory import checkpoint_activations_
from ramda_cli.training.objective import Objective
from ramda_cli.training.passes import Passes
from tests.texts.models import model
from tests.training.problems import CPU, digits, net, run


def half(cost: CostModel) -> Budget:
    return plan_budget(cost, TargetConfig(macs=0.5), floor=0.1)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 16), ({"accumulate": 2}, 8), ({"accumulate": 3}, 4), ({"max_steps": 6}, 6),
     ({"max_steps": 7}, 6), ({"max_steps": 99}, 16), ({"accumulate": 99}, 2)],
)  # fmt: skip
def test_steps(settings: dict[str, int], steps: int) -> None:
    config = TrainingConfig(epochs=2, freeze=0.5, **settings)
    trained, *_ = run(net(), config, budget_of=half)
    assert trained.steps == steps
    assert trained.history[-1].epoch == 2
    assert trained.history[-1].macs_share <= 0.5


def test_accumulated_batches_are_one_large_batch() -> None:
    """Where a batch has no statistics of its own."""
    gradients = []
    for accumulate, batch_size in ((1, 64), (2, 32)):
        data = digits(limit=64, batch_size=batch_size, augment="none")
        trained = net()
        kept: list[torch.Tensor] = []
        trained.fc.weight.register_post_accumulate_grad_hook(
            lambda weight, kept=kept: kept.append(weight.grad.clone())
        )
        settings = {"accumulate": accumulate, "freeze_batch_norm": True, "freeze": 1.0}
        run(trained, TrainingConfig(epochs=1, **settings), budget_of=half, data=data)
        gradients.append(kept[-1])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no step for each of 3 epochs"):
        TrainingConfig(epochs=3, max_steps=2)


def test_activations_are_computed_again() -> None:
    plain, saving = model("BertForSequenceClassification"), model("BertForSequenceClassification")
    checkpoint_activations_(saving)
    ids = torch.randint(5, 30, (2, 6))
    grads = []
    for each in (plain, saving):
        each.eval().train(False)
        for module in each.modules():
            module.training = not isinstance(module, torch.nn.Dropout)
        each(input_ids=ids).logits.sum().backward()
        grads.append(each.bert.encoder.layer[0].output.dense.weight.grad)
    torch.testing.assert_close(*grads)
    with pytest.raises(ConfigError, match="Net cannot compute activations again"):
        checkpoint_activations_(net())


def test_a_batch_that_fits_no_memory_is_told_with_one_that_may() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                torch.empty(2**60, dtype=torch.uint8)  # which no machine has
            return self.fc(x.flatten(1))

    data, config = digits(), TrainingConfig(epochs=1)
    model = Large()
    passes = Passes(data, config, Objective(model, config), device=CPU, observer=SilentObserver())
    with pytest.raises(TrainingError, match=r"^out of memory on cpu with a batch of 32$") as caught:
        passes.run(
            1, model, RAMDA(model.named_parameters(), lr=1e-3), first_step=0,
            before_step=lambda: None, after_step=lambda: None, passed_over=lambda: None,
            shown=dict,
        )  # fmt: skip
    assert "--batch-size 16 --accumulate 2 takes the same steps" in (caught.value.hint or "")
