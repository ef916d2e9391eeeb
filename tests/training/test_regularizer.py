"""The regularizer that the configuration names."""

import pytest

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.regularizers import GroupLasso, GroupMCP, GroupRegularizer
from ramda_cli.training.regularizer import build_regularizer


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainingConfig(), GroupLasso(0.0)),
        (TrainingConfig(weight=0.2), GroupLasso(0.2)),
        (TrainingConfig(weight=0.2, regularizer="group-mcp"), GroupMCP(0.2)),
        (TrainingConfig(weight=0.2, regularizer="group-mcp", gamma=7.0), GroupMCP(0.2, gamma=7.0)),
    ],
)
def test_each_name_is_its_regularizer(config: TrainingConfig, expected: GroupRegularizer) -> None:
    assert build_regularizer(config) == expected
