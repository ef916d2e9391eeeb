from pathlib import Path

import pytest

from ramda_cli.config.comparison import load_comparison
from ramda_cli.errors import ConfigError

TEXT = """
model: {name: m}
data: {name: d}
training: {epochs: 4, milestones: [2]}
methods:
  RAMDA: {method: ramda, lr: 1e-2, weight: 1e-3}
  dense: {method: proxsgd, lr: 0.1, weight: 0.0}
seeds: [0, 3]
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def test_every_method_is_run_with_every_seed(tmp_path: Path) -> None:
    comparison = load_comparison(written(tmp_path), {}, ["training.epochs=6"])
    assert comparison.name == "some"
    assert [(run.label, run.seed) for run in comparison.runs] == [
        ("RAMDA", 0), ("RAMDA", 3), ("dense", 0), ("dense", 3),
    ]  # fmt: skip
    first, *_, last = (run.config.training for run in comparison.runs)
    assert (first.method, first.lr, first.weight, first.seed) == ("ramda", 1e-2, 1e-3, 0)
    assert (last.method, last.weight, last.seed) == ("proxsgd", 0.0, 3)
    assert (last.epochs, last.milestones) == (6, (2,))


def test_some_methods_and_other_seeds(tmp_path: Path) -> None:
    comparison = load_comparison(written(tmp_path), {}, (), labels=["dense"], seeds=[7])
    runs, chosen = comparison.runs, comparison.chosen
    assert [(run.label, run.seed, run.config.training.seed) for run in chosen] == [("dense", 7, 7)]
    # The others are known, to be shown where they are there.
    others = [(run.label, run.seed) for run in runs if not run.chosen]
    assert others == [
        ("RAMDA", 0), ("RAMDA", 3), ("RAMDA", 7), ("dense", 0), ("dense", 3),
    ]  # fmt: skip


def test_labels_that_would_share_a_directory_are_refused(tmp_path: Path) -> None:
    text = TEXT.replace("dense:", "ramda+:")
    with pytest.raises(ConfigError, match="'RAMDA' and 'ramda\\+' share a directory, ramda-0"):
        load_comparison(written(tmp_path, text), {}, ())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("methods:", "method:", "has no methods to compare"),
     ("{method: ramda, lr: 1e-2, weight: 1e-3}", "3", "methods.RAMDA must be settings"),
     ("[0, 3]", "[0, 0]", "seeds must be different whole numbers"),
     ("[0, 3]", "5", "seeds must be different whole numbers"),
     ("[0, 3]", "[[0], [1]]", "seeds must be different whole numbers"),
     ("lr: 0.1", "lr: -1", "training.lr must be"),
     ("lr: 0.1", "speed: 1", "training.speed")],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in TEXT
    with pytest.raises(ConfigError, match=message):
        load_comparison(written(tmp_path, TEXT.replace(before, after, 1)), {}, ())


def test_an_unknown_label_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no method 'RMDA'") as caught:
        load_comparison(written(tmp_path), {}, (), labels=["RMDA"])
    assert caught.value.hint == "it has RAMDA, dense"
