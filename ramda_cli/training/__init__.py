"""Fine-tuning under a regularizer until channels are exactly zero."""

from ramda_cli.training.budget import Budget, Limit, plan_budget
from ramda_cli.training.evaluation import accuracy, accuracy_of
from ramda_cli.training.loop import Epoch, Trained, train

__all__ = ["Budget", "Epoch", "Limit", "Trained", "accuracy", "accuracy_of", "plan_budget", "train"]
