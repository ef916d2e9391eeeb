"""Which regularizer the configuration names."""

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.regularizers import GroupLasso, GroupMCP, GroupRegularizer


def build_regularizer(config: TrainingConfig) -> GroupRegularizer:
    """Return the regularizer of a run; its weight is 0 with a target, which decides the zeros."""
    weight = config.weight or 0.0
    if config.regularizer == "group-mcp":
        return GroupMCP(weight, config.gamma)
    return GroupLasso(weight)
