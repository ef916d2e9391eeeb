"""Cut the ranks of a dense model once, by three rankings, and measure it without any training.

    python benchmarks/rank_metrics.py configs/text/minilm-sst2-low-rank.yaml \
        --set data.val_split=validation -o out/rank-metrics.json

`norm` ranks singular values of the weights by what they save; `layer` multiplies them by the
layer's root mean squared gradient; `metric` is what `ramda prune` does: singular values in the
product of row and column sums of squared gradients. The gradients are of the first batches.
"""

import argparse
import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import TargetConfig
from ramda_cli.optimizers.ranks import leading_factors
from ramda_cli.pipeline.loading import load_run
from ramda_cli.pipeline.ranks import choose_matrices, hold_channels
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.widths import plan_widths, with_ranks
from ramda_cli.training import plan_budget
from ramda_cli.training.evaluation import evaluate
from ramda_cli.training.objective import Objective
from ramda_cli.training.rank_rule import RankBudgetRule


class _Layers(RankBudgetRule):
    """The rule with one number for a layer in place of sums of rows and columns."""

    def metric(self, name: str) -> tuple[Tensor, Tensor]:
        rows, cols = self._sums[name]
        mean = (rows.sum() / (len(rows) * len(cols))).sqrt()
        return torch.ones_like(rows) * mean, torch.ones_like(cols)


def main() -> None:
    """Measure every ranking at every share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--shares", default="0.8,0.6,0.5")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    config = load_config(options.config, {}, options.sets)
    loaded, data = load_run(config)
    model = loaded.module
    matrices = choose_matrices(model, config.structure.low_rank)
    structure = hold_channels(discover(model, loaded.example_inputs), matrices)
    widths = with_ranks(
        plan_widths(structure.groups, round_to=1, uniform=False), matrices, round_to=1
    )
    gradients = _gradients(model, data, config, matrices, options.batches)

    def measured(smaller: nn.Module) -> float:
        return evaluate(smaller, data.task, data.val, device=torch.device("cpu"))

    results = [{"ranking": "dense", "share": 1.0, "value": measured(model.eval())}]
    for share in map(float, options.shares.split(",")):
        for ranking in ("norm", "layer", "metric"):
            budget = plan_budget(
                CostModel(structure, matrices), TargetConfig(body_params=share),
                floor=config.structure.floor, widths=widths,
            )  # fmt: skip
            kind = _Layers if ranking == "layer" else RankBudgetRule
            rule = kind(
                budget, warm_up_steps=0, ramp_steps=1, freeze_step=len(gradients), every=10**6,
                by_norm=ranking == "norm",
            )  # fmt: skip
            for each in gradients:
                rule.take(each)
            smaller = copy.deepcopy(model)
            _cut(smaller, matrices, rule)
            value = measured(smaller)
            results.append({"ranking": ranking, "share": share, "value": value})
            print(json.dumps(results[-1]), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")


def _gradients(model, data, config, matrices, batches):  # type: ignore[no-untyped-def]
    """Return the gradients of the matrices on some batches."""
    labels_alone = config.training.model_copy(update={"distill": 0.0})
    objective = Objective(model, labels_alone, data.task)
    named, found = dict(model.named_parameters()), []
    model.train()
    for (inputs, targets), _ in zip(data.train, range(batches), strict=False):
        model.zero_grad()
        objective(model, inputs, targets).backward()
        found.append({m.parameter: named[m.parameter].grad.clone() for m in matrices})
    return found


@torch.no_grad()
def _cut(model: nn.Module, matrices: tuple[Matrix, ...], rule: RankBudgetRule) -> None:
    """Truncate the weights, in place."""
    named = dict(model.named_parameters())
    weights = {m.parameter: named[m.parameter] for m in matrices}
    factors = leading_factors(weights, rule)
    for name, (left, right) in factors.items():
        matrix = weights[name].flatten(1)
        tall = matrix.shape[0] > matrix.shape[1]
        cut = (matrix @ right) @ left.mT if tall else left @ (right.mT @ matrix)
        weights[name].copy_(cut.view_as(weights[name]))


if __name__ == "__main__":
    main()
