"""Methods side by side: means, deviations, curves, and how they are shown."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ramda_cli.errors import FileFormatError
from ramda_cli.report.document import EpochEntry
from ramda_cli.report.methods import (
    Measured,
    MethodComparison,
    MethodRun,
    last_tenth,
    mean_curve,
    over_runs,
)
from ramda_cli.report.methods_view import (
    comparison_html,
    comparison_markdown,
    render_comparison,
)
from ramda_cli.report.plain import build_comparison, parse_comparison


def a_run(
    label: str, seed: int, value: float, levels: tuple[float, ...], *, seconds: float | None = 2.0
) -> MethodRun:
    history = tuple(
        EpochEntry(epoch=n, metric=value, group_sparsity=level) for n, level in enumerate(levels)
    )
    return MethodRun(
        directory=f"{label}-{seed}", label=label, seed=seed, metric="top-1 <b>", value=value,
        structure=levels[-1], removed=0.25, seconds_per_epoch=seconds, unchanged=seed == 0,
        history=history,
    )  # fmt: skip


COMPARISON = MethodComparison(
    name="c", model="m", data="d", epochs=4, structure="weighted group sparsity", device="cpu",
    runs=(
        a_run("RAMDA", 0, 0.9, (0.0, 0.2, 0.5, 0.5, 0.5)),
        a_run("RAMDA", 1, 0.8, (0.0, 0.4, 0.7, 0.7, 0.7)),
        a_run("ProxSGD", 0, 0.5, (0.0, 0.1, 0.1, 0.3, 0.2), seconds=None),
    ),
)  # fmt: skip


def test_means_and_deviations_are_over_seeds() -> None:
    ramda, prox = COMPARISON.of("RAMDA"), COMPARISON.of("ProxSGD")
    assert COMPARISON.labels == ["RAMDA", "ProxSGD"]
    found = over_runs(ramda, lambda run: run.value)
    assert found is not None
    assert found.mean == pytest.approx(0.85)
    assert found.deviation == pytest.approx(0.1 / 2**0.5)
    assert over_runs(prox, lambda run: run.value) == Measured(0.5, None)
    assert over_runs(prox, lambda run: run.seconds_per_epoch) is None


def test_the_structure_s_deviation_is_that_of_the_last_epochs() -> None:
    assert COMPARISON.runs[0].structure_deviation == 0
    assert COMPARISON.runs[2].structure_deviation == pytest.approx(0.1)
    long = a_run("x", 0, 0.5, tuple([0.0] * 50 + [0.4, 0.6] * 3))
    last = [0.4, 0.6] * 3
    mean = sum(last) / 6
    assert long.structure_deviation == pytest.approx(
        (sum((x - mean) ** 2 for x in last) / 5) ** 0.5
    )
    assert a_run("x", 0, 0.5, (0.1, 0.2)).structure_deviation is None
    assert [*last_tenth([50])] == [46, 47, 48, 49, 50]
    assert [*last_tenth([4])] == [2, 3, 4]


def test_curves_are_means_at_the_epochs_that_all_have() -> None:
    short = a_run("RAMDA", 2, 0.7, (0.0, 0.6))
    curve = mean_curve([*COMPARISON.of("RAMDA"), short], lambda entry: entry.group_sparsity)
    assert curve == [(0, 0.0), (1, pytest.approx(0.4))]
    assert mean_curve([], lambda entry: entry.metric) == []


def test_what_is_written_is_read_back() -> None:
    document = build_comparison(COMPARISON)
    assert parse_comparison(document) == COMPARISON
    with pytest.raises(FileFormatError, match="the comparison is damaged at runs"):
        parse_comparison({**document, "runs": [{"label": 3}]})


def test_it_is_shown_everywhere() -> None:
    document = build_comparison(COMPARISON)
    console = Console(file=io.StringIO(), width=120)
    render_comparison(document, console)
    terminal = console.file.getvalue()  # type: ignore[attr-defined]
    markdown, page = comparison_markdown(document), comparison_html(document)
    for shown in (terminal, markdown):
        assert "85.00 ± 7.07 %" in shown
    assert "2 of 3" in terminal
    assert "<td>85.00 ± 7.07 %</td>" in page
    assert page.count("<svg") == 3
    assert "top-1 &lt;b&gt;" in page
    assert "top-1 <b>" not in page


def test_another_metric_is_shown_as_finely_as_it_is_known() -> None:
    runs = tuple(
        replace(run, value=value, is_share=False)
        for run, value in zip(COMPARISON.runs[:2], (122.75, 122.95), strict=True)
    )
    shown = comparison_markdown(build_comparison(replace(COMPARISON, runs=runs)))
    assert "122.85 ± 0.14" in shown


def test_every_method_has_its_line() -> None:
    runs = tuple(a_run(f"method {n}", 0, 0.5, (0.0, 0.1 * n, 0.1 * n, 0.2)) for n in range(8))
    page = comparison_html(build_comparison(replace(COMPARISON, runs=runs)))
    legends = page.count(">method 7</text>")
    assert legends == page.count("<svg") > 0
