"""Compare methods over targets and seeds, from the sweeps of one model.

    ramda sweep --config configs/cifar10/resnet20-base.yaml --targets 0.7,0.5,0.3 --methods ramda \
        --seeds 0,1,2 --set training.lr=2e-3 -o out/methods/ramda
    python benchmarks/compare_methods.py out/methods/ramda out/methods/taylor

Each method may have a directory of its own, and so its own learning rate. Prints a markdown table
of the means over seeds with their standard errors, and for every other method the first method's
lead, whose standard error is that of a difference of independent means.
"""

import argparse
import json
import math
from pathlib import Path

from ramda_cli.report.formatting import measured, targets_text
from ramda_cli.report.plain import parse_sweep
from ramda_cli.report.sweep import OverSeeds, Point, over_seeds


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="DIR")
    options = parser.parse_args()
    points: list[Point] = []
    for directory in options.sweeps:
        points += parse_sweep(json.loads((directory / "sweep.json").read_text())).points
    means = over_seeds(points)
    methods = list(dict.fromkeys(mean.method for mean in means))
    asked = list(dict.fromkeys(targets_text(mean.asked) for mean in means))
    heads = [*methods, *(f"{methods[0]} - {other}" for other in methods[1:])]
    print(f"| asked | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for target in asked:
        found = {each.method: each for each in means if targets_text(each.asked) == target}
        cells = [_mean(found.get(method)) for method in methods]
        cells += [_lead(found.get(methods[0]), found.get(other)) for other in methods[1:]]
        print(f"| {target} | {' | '.join(cells)} |")
    print(f"\nunchanged at the cut: {sum(p.unchanged for p in points)} of {len(points)} runs")


def _mean(mean: OverSeeds | None) -> str:
    if mean is None:
        return "-"
    pruned, error = (
        measured(value, is_share=mean.is_share) for value in (mean.pruned, mean.standard_error)
    )
    return f"{pruned} ± {error}"


def _lead(first: OverSeeds | None, other: OverSeeds | None) -> str:
    if first is None or other is None:
        return "-"
    lead = first.pruned - other.pruned
    error = math.hypot(first.standard_error, other.standard_error)
    shown, around = (measured(value, is_share=first.is_share) for value in (abs(lead), error))
    return f"{'-' if lead < 0 else '+'}{shown} ± {around}"


if __name__ == "__main__":
    main()
