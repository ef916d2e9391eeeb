"""Fine-tuning under a regularizer until channels are exactly zero."""

from ramda_cli.training.budget import Budget, plan_budget
from ramda_cli.training.evaluation import accuracy
from ramda_cli.training.loop import Trained, train

__all__ = ["Budget", "Trained", "accuracy", "plan_budget", "train"]
