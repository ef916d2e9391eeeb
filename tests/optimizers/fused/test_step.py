"""Steps by kernels against the same steps in torch operations."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import RAMDA, Penalty, Threshold, ZeroTest
from ramda_cli.optimizers.fused import library
from ramda_cli.regularizers import GroupLasso, GroupMCP
from tests.optimizers.problems import group, groups, parameters, penalized, set_gradients

pytestmark = pytest.mark.skipif(not library.available(), reason="no C++ compiler")

Named = dict[str, nn.Parameter]


def _twins(dtype: torch.dtype = torch.float32) -> tuple[Named, Named]:
    return parameters(dtype), parameters(dtype)


def _share_gradients(one: Named, other: Named, seed: int, *, scale: float = 0.3) -> None:
    set_gradients(one, seed, scale=scale)
    for name, parameter in other.items():
        parameter.grad = one[name].grad


def _assert_close(
    one: Named, other: Named, *, start: Named | None = None, tolerance: float = 1e-5
) -> None:
    # Near ‖w‖ = L a channel is the difference of two equal numbers, whoever computes it: there
    # its error is measured against what the parameter was.
    for name, parameter in one.items():
        size = max(float(x[name].detach().norm()) for x in (one, start or one))
        assert float((parameter - other[name]).detach().norm()) <= tolerance * size, name


def _assert_same_steps(
    fused: RAMDA, plain: RAMDA, one: Named, other: Named, *, steps: int, start: Named | None = None
) -> None:
    for step in range(steps):
        _share_gradients(one, other, step)
        fused.step()
        plain.step()
        assert torch.equal(fused.solution_zero, plain.solution_zero)
        _assert_close(one, other, start=start)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.05, 0.02), (0.5, 0.4), (1e3, 0.3)])
@pytest.mark.parametrize("momentum", [0.01, 0.7, 1.0])
def test_200_steps_are_the_same(weights: tuple[float, float], momentum: float):
    (one, other), start = _twins(), parameters(torch.float32)
    settings = {"lr": 0.05, "momentum": momentum}
    fused = RAMDA(one.items(), penalized(*weights), fused=True, **settings)
    plain = RAMDA(other.items(), penalized(*weights), fused=False, **settings)
    _assert_same_steps(fused, plain, one, other, steps=200, start=start)
    assert float(fused.certificate) <= 1e-5 * fused.param_groups[0]["step_size_sum"]


@pytest.mark.parametrize("gamma", [1.05, 1.5, 4.0])
def test_200_steps_under_group_mcp_are_the_same(gamma: float):
    (one, other), start = _twins(), parameters(torch.float32)
    penalties = [Penalty(each, GroupMCP(0.2, gamma)) for each in groups()]
    fused = RAMDA(one.items(), penalties, lr=0.05, momentum=0.7, fused=True)
    plain = RAMDA(other.items(), penalties, lr=0.05, momentum=0.7, fused=False)
    _assert_same_steps(fused, plain, one, other, steps=200, start=start)
    assert float(fused.certificate) <= 1e-5 * fused.param_groups[0]["step_size_sum"]


def test_bf16_parameters_and_gradients():
    one, other = _twins(torch.bfloat16)
    fused = RAMDA(one.items(), penalized(0.1, 0.1), lr=0.1, momentum=0.01, fused=True)
    plain = RAMDA(other.items(), penalized(0.1, 0.1), lr=0.1, momentum=0.01, fused=False)
    for step in range(50):
        _share_gradients(one, other, step)
        fused.step()
        plain.step()
    for name, parameter in one.items():
        master = fused.state[parameter]["master"]
        assert torch.equal(parameter, master.to(torch.bfloat16))
        torch.testing.assert_close(master, plain.state[other[name]]["master"], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layout",
    [
        lambda g: g.to(memory_format=torch.channels_last) if g.ndim == 4 else g,
        lambda g: g.mT.contiguous().mT if g.ndim == 2 else g,
    ],
    ids=["channels last", "transposed"],
)
def test_gradients_of_any_layout(layout: Callable[[Tensor], Tensor]):
    one, other = _twins()
    fused = RAMDA(one.items(), penalized(), lr=0.1, momentum=1.0, fused=True)
    plain = RAMDA(other.items(), penalized(), lr=0.1, momentum=1.0, fused=False)
    for step in range(3):
        _share_gradients(one, other, step)
        for parameter in one.values():
            parameter.grad = layout(parameter.grad)
        fused.step()
        plain.step()
        _assert_close(one, other)


def test_long_rows_and_many_tiles():
    generator = torch.Generator().manual_seed(0)
    shapes = {"rows": (7, 70_000), "wide": (90, 1500), "thin": (3000, 5), "vector": (600,)}

    def build() -> Named:
        generator.manual_seed(1)
        return {k: nn.Parameter(torch.randn(v, generator=generator)) for k, v in shapes.items()}

    fifths = [[*range(i, 600, 5)] for i in range(5)]
    penalties = [
        Penalty(group("rows", 7, ("rows", 0, [*range(7)])), GroupLasso(0.5)),
        Penalty(group("wide", 1500, ("wide", 1, [*range(1500)])), GroupLasso(0.3)),
        Penalty(
            group(
                "thin", 5, ("thin", 1, [*range(5)]), ("vector", 0, fifths)
            ),
            GroupLasso(0.01),
        ),
    ]  # fmt: skip
    one, other = build(), build()
    fused = RAMDA(one.items(), penalties, lr=0.1, momentum=0.3, fused=True)
    plain = RAMDA(other.items(), penalties, lr=0.1, momentum=0.3, fused=False)
    _assert_same_steps(fused, plain, one, other, steps=8)
    assert 0 < int(fused.solution_zero.sum()) < fused.solution_zero.numel()


def test_param_groups_with_settings_of_their_own():
    one, other = _twins()

    def split(named: Named) -> list[dict[str, object]]:
        return [
            {"params": [(k, p) for k, p in named.items() if k.startswith("gate")], "lr": 0.3},
            {"params": [(k, p) for k, p in named.items() if not k.startswith("gate")]},
        ]

    fused = RAMDA(split(one), penalized(0.1, 0.1), lr=0.1, momentum=0.5, fused=True)
    plain = RAMDA(split(other), penalized(0.1, 0.1), lr=0.1, momentum=0.5, fused=False)
    for step in range(20):
        _share_gradients(one, other, step)
        fused.step()
        plain.step()
        assert torch.equal(fused.solution_zero, plain.solution_zero)
        _assert_close(one, other)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_gradients_of_any_size(scale: float):
    one, other = _twins()
    fused = RAMDA(one.items(), penalized(0.1, 0.1), lr=0.1, momentum=1.0, fused=True)
    plain = RAMDA(other.items(), penalized(0.1, 0.1), lr=0.1, momentum=1.0, fused=False)
    for step in range(5):
        _share_gradients(one, other, step, scale=scale)
        fused.step()
        plain.step()
        assert torch.equal(fused.solution_zero, plain.solution_zero)
        _assert_close(one, other)


def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    ends = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            named = parameters(torch.float32)
            # Of several tiles.
            named["large"] = nn.Parameter(torch.linspace(-1, 1, 300_000).view(500, 600))
            large = Penalty(group("large", 600, ("large", 1, [*range(600)])), GroupLasso(0.01))
            optimizer = RAMDA(named.items(), [*penalized(0.1, 0.1), large], lr=0.1, fused=True)
            for step in range(5):
                set_gradients(named, step)
                optimizer.step()
            ends.append([p.detach().clone() for p in named.values()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for end in ends[1:] for a, b in zip(ends[0], end, strict=True))


def test_a_rule_sees_the_same():
    seen: list[list[Tensor]] = [[], []]

    def rule(into: list[Tensor]) -> Callable[[ZeroTest], Threshold]:
        def decide(test: ZeroTest) -> Threshold:
            into.extend([test.crit, test.change(), test.was_zero.float()])
            zero = test.crit < test.crit.median()
            return Threshold(zero, 0.1 * test.crit * test.size.sqrt())

        return decide

    one, other = _twins()
    fused = RAMDA(one.items(), penalized(), lr=0.1, thresholds=rule(seen[0]), fused=True)
    plain = RAMDA(other.items(), penalized(), lr=0.1, thresholds=rule(seen[1]), fused=False)
    for step in range(4):
        _share_gradients(one, other, step)
        fused.step()
        plain.step()
    assert len(seen[0]) == 12
    for mine, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_why_kernels_cannot_be_had(monkeypatch: pytest.MonkeyPatch):
    named = parameters(torch.float64)
    optimizer = RAMDA(named.items(), penalized(), fused=True)
    set_gradients(named, 0)
    with pytest.raises(RuntimeError, match=r"^fused=True, but a parameter is torch\.float64$"):
        optimizer.step()
    with pytest.raises(ValueError, match="fused=True needs solver='exact'"):
        RAMDA(named.items(), penalized(), fused=True, solver="pg")
    named = parameters(torch.float32)
    named["gate.weight"].requires_grad_(False)
    optimizer = RAMDA(named.items(), penalized(), fused=True)
    set_gradients({k: p for k, p in named.items() if k != "gate.weight"}, 0)
    with pytest.raises(RuntimeError, match="a penalty has a parameter without a gradient"):
        optimizer.step()
    monkeypatch.setattr("ramda_cli.optimizers.fused.choice.available", lambda: False)
    named = parameters(torch.float32)
    set_gradients(named, 0)
    with pytest.raises(RuntimeError, match="the kernels cannot be compiled"):
        RAMDA(named.items(), penalized(), fused=True).step()
    RAMDA(named.items(), penalized()).step()


def test_without_a_compiler_steps_are_taken_in_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    library.load.cache_clear()
    library.available.cache_clear()
    try:
        assert not library.available()
        assert not library.available()
        (record,) = caplog.records
        assert "there is no C++ compiler; install g++ or clang++" in record.getMessage()
        named = parameters(torch.float32)
        set_gradients(named, 0)
        before = {name: p.detach().clone() for name, p in named.items()}
        RAMDA(named.items(), penalized()).step()
        assert all(not torch.equal(before[name], p) for name, p in named.items())
    finally:
        library.load.cache_clear()
        library.available.cache_clear()


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    compiler = tmp_path / "broken"
    compiler.write_text(
        "#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'no such target' >&2; exit 1\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    try:
        with pytest.raises(library.KernelsUnavailableError, match="broken fails: no such target"):
            library.load()
    finally:
        library.load.cache_clear()


def test_the_library_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    try:
        library.load()
        (built,) = (tmp_path / "ramda").iterdir()
        written = built.stat().st_mtime_ns
        library.load.cache_clear()
        library.load()
        assert built.stat().st_mtime_ns == written
    finally:
        library.load.cache_clear()


def test_steps_can_be_counted_on_the_device():
    one, other = _twins()
    lr, momentum = torch.tensor(0.1), torch.tensor(0.5)
    counted = RAMDA(one.items(), penalized(), lr=lr, momentum=momentum, capturable=True, fused=True)
    plain = RAMDA(other.items(), penalized(), lr=0.1, momentum=0.5, fused=True)
    counter = counted.param_groups[0]["step"]
    for step in range(6):
        if step == 3:
            counted.restart()
            plain.restart()
        rate = 0.1 * (1 - step / 20)
        lr.fill_(rate)
        plain.param_groups[0]["lr"] = rate
        _share_gradients(one, other, step)
        counted.step()
        plain.step()
        _assert_close(one, other, tolerance=1e-6)
    assert counted.param_groups[0]["step"] is counter
    assert float(counter) == plain.param_groups[0]["step"] == 3
    resumed = RAMDA(parameters(torch.float32).items(), penalized(), capturable=True)
    resumed.load_state_dict(counted.state_dict())
    assert float(resumed.param_groups[0]["step"]) == 3
    assert resumed.param_groups[0]["step"] is not counter


def test_a_captured_rule_sees_the_scale_as_a_tensor():
    named = parameters(torch.float32)
    scales = []

    def rule(test: ZeroTest) -> Threshold:
        scales.append(test.scale)
        return Threshold(test.crit < 0, torch.zeros_like(test.crit))

    optimizer = RAMDA(named.items(), penalized(), lr=0.1, thresholds=rule, capturable=True)
    set_gradients(named, 0)
    optimizer.step()
    assert isinstance(scales[0], Tensor)
    assert float(scales[0]) == pytest.approx(0.1)


def test_a_library_that_somebody_else_may_have_left_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library._directory() == tmp_path / "ramda"
    assert (tmp_path / "ramda").stat().st_mode & 0o077 == 0
    monkeypatch.setattr("os.getuid", lambda: -1)
    assert library._directory() == Path(library._scratch().name)


def test_a_cache_that_cannot_be_written_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert library._directory() == Path(library._scratch().name)
