"""`prune` where weights lose ranks: which, how far, proven, written and told."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ramda_cli
from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import ModelConfig, RunConfig
from ramda_cli.errors import ConfigError, TargetError
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.ranks import choose_matrices, hold_channels, ranks_lost, spectra_of
from ramda_cli.pipeline.verify import verify
from ramda_cli.report.html import render_html
from ramda_cli.structure import discover
from ramda_cli.structure.matrices import Matrix
from ramda_cli.surgery.factorize import factorize
from tests.pipeline.recording import Recorder


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.inner = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.table.weight
        self.gate = nn.Conv1d(16, 16, 3, padding=1, groups=4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for layer in self.inner:
            x = x + layer(self.norm(x)).relu()
        return self.head(self.gate(x.mT).mT)


def names_of(matrices: tuple[Matrix, ...]) -> list[str]:
    return [matrix.parameter for matrix in matrices]


def test_a_pattern_takes_what_can_become_two() -> None:
    words = Words()
    assert names_of(choose_matrices(words, ["*"])) == ["inner.0.weight", "inner.1.weight"]
    assert names_of(choose_matrices(words, ["inner.1"])) == ["inner.1.weight"]
    assert choose_matrices(words, []) == ()
    assert choose_matrices(words, ["*.0"]) == (Matrix("inner.0.weight", 16, 16),)
    assert names_of(choose_matrices(words, ["*"], keep=["*.0"])) == ["inner.1.weight"]


def test_what_is_not_trained_or_is_made_or_hooked_is_left_alone() -> None:
    words = Words()
    words.inner[0].weight.requires_grad_(False)
    assert names_of(choose_matrices(words, ["*"])) == ["inner.1.weight"]
    words.inner[0].weight.requires_grad_(True)
    words.inner[1].register_forward_hook(lambda *_: None)
    assert names_of(choose_matrices(words, ["*"])) == ["inner.0.weight"]
    torch.nn.utils.parametrizations.weight_norm(words.inner[0])
    with pytest.raises(ConfigError):
        choose_matrices(words, ["*"])


def test_an_embedding_is_taken_by_its_name_alone() -> None:
    words = Words()
    words.head.weight = nn.Parameter(torch.zeros(50, 16))
    assert "table.weight" not in names_of(choose_matrices(words, ["*"]))
    assert choose_matrices(words, ["table"]) == (Matrix("table.weight", 50, 16),)


def test_the_spectrum_of_a_square_embedding_that_is_a_product() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(16, 16), nn.Linear(16, 3))
    (matrix,) = choose_matrices(net, ["0"])
    smaller, _ = factorize(net, {"0.weight": 4})
    values = spectra_of(smaller, [matrix])["0.weight"]
    expected = torch.linalg.svdvals(net[0].weight)[:4]
    torch.testing.assert_close(torch.tensor(values[:4]), expected, rtol=1e-3, atol=0)
    assert not any(values[4:])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("blocks.*", "matches no layer"),
        ("norm", "matches LayerNorm, and none of these can become two"),
        ("gate", "matches Conv1d, and none"),
        ("head", "matches Linear, and none"),
    ],
)
def test_a_pattern_that_takes_nothing_is_an_error(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        choose_matrices(Words(), [pattern])
    assert caught.value.hint


def test_channels_of_a_weight_that_loses_ranks_stay() -> None:
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    structure = discover(net, torch.zeros(2, 8))
    held = hold_channels(structure, choose_matrices(net, ["0"]))
    assert [group.name for group in held.groups] == ["2"]
    assert held.fixed[-1].name == "0"
    assert held.fixed[-1].reason == "ranks of 0.weight go in place of channels"
    assert hold_channels(structure, choose_matrices(net, ["2"])).groups == ()


def test_only_ranks_that_pay_are_lost() -> None:
    matrices = (Matrix("a.weight", 10, 10), Matrix("b.weight", 10, 10), Matrix("c.weight", 10, 10))
    ranks = {"a.weight": (5, 10), "b.weight": (4, 10), "c.weight": (0, 10)}
    assert ranks_lost(matrices, ranks) == {"b.weight": range(6), "c.weight": range(9)}
    assert ranks_lost(matrices, ranks, {"b": 4}) == {"b.weight": range(6)}


def run_of(tmp_path: Path, *low_rank: str, **training: Any) -> RunConfig:
    target = training.pop("target", {"params": 0.5})
    return RunConfig.model_validate(
        {
            "model": {"name": "digits-resnet"},
            "data": {"name": "digits", "batch_size": 64, "workers": 0},
            "structure": {"low_rank": list(low_rank)},
            "target": target,
            "training": {"epochs": 3, "device": "cpu", **training},
            "output": {"directory": str(tmp_path / "out"), "bench": False},
        }
    )


def parameters_in(path: Path) -> int:
    return sum(p.numel() for p in ramda_cli.load(path).parameters())


@pytest.mark.parametrize(
    "method",
    ["ramda", *(pytest.param(name, marks=pytest.mark.slow) for name in ("taylor", "magnitude"))],
)
def test_a_run_over_ranks(tmp_path: Path, method: str) -> None:
    report: Any = prune(run_of(tmp_path, "*", method=method), Recorder())
    out = tmp_path / "out"
    reached, accuracy = report["reached"], report["accuracy"]
    assert reached["met"]
    assert abs(reached["relative_deviation"]) <= 0.02
    assert parameters_in(out / "model.safetensors") == report["size"]["pruned"]["params"]
    assert accuracy["before_removal"] == accuracy["after_removal"]
    assert accuracy["recovered"] == accuracy["reloaded"] == accuracy["onnx"]
    assert accuracy["recovered"] > 0.95
    first, second, *_ = report["proof"]["checks"]
    assert first["dtype"] == "float64"
    assert first["relative_difference"] < 1e-12
    assert second["dtype"] == "float32"
    assert all(check["passed"] for check in report["proof"]["checks"])

    matrices = {entry["name"]: entry for entry in report["matrices"]}
    two = {name: entry for name, entry in matrices.items() if entry["factorized"]}
    assert two
    for entry in two.values():
        assert entry["rank"] * (entry["rows"] + entry["cols"]) < entry["rows"] * entry["cols"]
        assert len(entry["before"]) == len(entry["after"]) == min(64, entry["full_rank"])
        assert entry["after"][-1] == 0.0 < entry["before"][-1]
    assert all("saves nothing" in e["reason"] for n, e in matrices.items() if n not in two)
    assert report["asked"]["low_rank"] == ["*"]
    assert report["training"]["history"][0]["group_sparsity"] is None
    assert report["training"]["history"][-1]["low_rank_level"] > 0.1
    assert render_html(report).count("<figure>") == len(matrices)
    assert verify(out)["passed"]


def test_channels_and_ranks_go_in_one_run(tmp_path: Path) -> None:
    config = run_of(tmp_path, "stages.2.*", target={"params": 0.4, "macs": 0.6})
    report: Any = prune(config, Recorder())
    assert report["reached"]["met"]
    assert report["further"][0]["met"]
    assert report["size"]["pruned"]["channels"] < report["size"]["dense"]["channels"]
    assert any(entry["factorized"] for entry in report["matrices"])
    assert (
        parameters_in(tmp_path / "out" / "model.safetensors")
        == (report["size"]["pruned"]["params"])
    )
    accuracy = report["accuracy"]
    assert accuracy["before_removal"] == accuracy["after_removal"]
    assert accuracy["reloaded"] == accuracy["recovered"] > 0.9


def test_a_weight_of_the_nuclear_norm_takes_ranks(tmp_path: Path) -> None:
    config = run_of(
        tmp_path, "stages.2.conv2", "stages.2.conv1",
        target=None, weight=0.0, rank_weight=1e-2, milestones=[2], momentum=0.5, lr=1e-2,
    )  # fmt: skip
    report: Any = prune(config, Recorder())
    assert report["asked"]["rank_weight"] == 1e-2
    ranks = {entry["name"]: entry["rank"] for entry in report["matrices"]}
    assert min(ranks.values()) < 128
    assert all(check["passed"] for check in report["proof"]["checks"])


def test_what_does_not_go_together_is_told_at_once(tmp_path: Path) -> None:
    for sets, message in [
        (["structure.layout=uniform"], "which no library's configuration says"),
        (["training.rank_weight=0.1"], "exclude each other"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_config(None, {"model.name": "digits-resnet", "data.name": "digits"}, [
                "structure.low_rank=['*']", "target.params=0.5", *sets,
            ])  # fmt: skip
    with pytest.raises(ConfigError, match="and none does"):
        load_config(None, {"model.name": "digits-resnet", "data.name": "digits"}, [
            "training.threshold_every=5", "target.params=0.5",
        ])  # fmt: skip
    with pytest.raises(ConfigError, match="compares no channels with ranks"):
        prune(run_of(tmp_path, "stages.2.*", method="magnitude"), Recorder())
    with pytest.raises(TargetError, match="every rank and removable channel"):
        prune(run_of(tmp_path, "*", target={"macs": 0.01}), Recorder())
    with pytest.raises(TargetError, match="no channels that can go"):
        prune(run_of(tmp_path, "*", target={"channels": 0.5}), Recorder())
    assert not (tmp_path / "out").exists()


GRAPH = """
import torch
from torch import nn

PREPROCESSING = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.inner = nn.Linear(64, 40)
        self.idle = nn.Linear(64, 40)
        self.frozen = nn.Linear(40, 24).requires_grad_(False)
        self.drop = nn.Dropout(DROP)
        self.head = nn.Linear(24 * 12, 10)

    def forward(self, x):
        # The width in the code makes the smaller model a graph.
        x = self.first(x).relu().reshape(-1, 12, 64)
        return self.head(self.drop(self.frozen(self.inner(x).relu())).flatten(1))

def net():
    torch.manual_seed(0)
    return Net()
"""


@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
@pytest.mark.parametrize("weight", [None, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_graph_with_layers_of_low_rank(
    tmp_path: Path, dropout: float, weight: float | None
) -> None:
    """Some of whose weights are frozen, or not used at all."""
    (tmp_path / "net.py").write_text(GRAPH.replace("DROP", str(dropout)))
    how: dict[str, Any] = {"target": {"params": 0.6}}
    if weight is not None:
        how = {"target": None, "weight": 1e-3, "rank_weight": weight, "recover_epochs": 1}
    config = run_of(tmp_path, "inner", "idle", epochs=4, **how)
    model = ModelConfig(name=f"{tmp_path / 'net.py'}:net")
    report: Any = prune(config.model_copy(update={"model": model}), Recorder())
    assert report["reached"]["met"]
    assert report["layout"].startswith("graph")
    matrices = {entry["name"]: entry for entry in report["matrices"]}
    assert len(matrices["inner.weight"]["after"]) == 40
    assert not matrices["idle.weight"]["factorized"]
    assert report["accuracy"]["reloaded"] == (
        report["accuracy"]["recovered"] or report["accuracy"]["after_removal"]
    )
    assert all(check["passed"] for check in report["proof"]["checks"])
    if weight is not None:
        levels = [e["low_rank_level"] for e in report["training"]["history"]]
        assert levels[-1] == levels[-2] > 0


@pytest.mark.slow
def test_a_latency_is_reached_by_ranks(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(WIDE)
    config = run_of(tmp_path, "*", target={"latency": 0.7}, epochs=2, distill=0.0)
    model = ModelConfig(name=f"{tmp_path / 'net.py'}:net")
    recorder = Recorder()
    report: Any = prune(config.model_copy(update={"model": model}), recorder)
    assert any("follow the MACs" in note for note in report["notes"])
    assert report["reached"]["metric"] == "latency"
    assert any(entry["factorized"] for entry in report["matrices"])
    # How fast it is depends on the machine; that it was measured and told does not.
    assert report["latency"] is not None


WIDE = """
from torch import nn

PREPROCESSING = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024),
        nn.ReLU(), nn.Linear(1024, 10))
"""
