"""Fine-tuning under a regularizer until channels are exactly zero."""

from ramda_cli.training.budget import Budget, Limit, Measure, plan_budget
from ramda_cli.training.evaluation import evaluate, evaluate_outputs
from ramda_cli.training.loop import State, Training
from ramda_cli.training.records import Epoch, Trained

__all__ = [
    "Budget",
    "Epoch",
    "Limit",
    "Measure",
    "State",
    "Trained",
    "Training",
    "evaluate",
    "evaluate_outputs",
    "plan_budget",
]
