"""The report as a page: complete, self-contained, and nothing of a file is markup."""

from dataclasses import replace
from html.parser import HTMLParser

from ramda_cli.report.document import Asked, EpochEntry
from ramda_cli.report.html import render_html
from ramda_cli.report.plain import build_report
from tests.report.sample import LATENCY, REPORT

HISTORY = tuple(
    EpochEntry(
        epoch=epoch,
        loss=1 / (epoch + 1),
        metric=0.5,
        group_sparsity=0.1 * epoch,
        macs_share=1.0,
        certificate=1e-9,
        zero_set_change=0.1,
    )
    for epoch in range(4)
)
TRAINED = replace(REPORT, training=replace(REPORT.training, history=HISTORY))
HOSTILE = "</table><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\x1b[31m"


class _Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_a_user_decides_from_is_there():
    page = _Page(render_html(build_report(TRAINED)))
    for expected in (
        "50.0 % of the MACs",
        "98.89 %",
        "proof passed",
        "validation batch",
        "1.82x (1.79 to 1.86)",
        "torch: 1.82x faster (1.79 to 1.86) at batch 32, no speed-up measured (0.97 to 1.15)",
        "Timed in turns on a CPU, 2 threads.",
        "3.0e-16",
        "layer1.0.conv1",
        "28 %",
        "ramda prune digits-resnet --data digits",
        "ab" * 32,
        "epochs: 10",
        "the head was replaced: 1000 to 10 classes",
        "aten.native_layer_norm mixes the channels it normalises",
        "2 zero but held",
        "a.weight",
        "A target has no regularization weight",
        "layer1.0.conv1 (Conv2d): 9 of 32 left",
        "rank 9 of 64, 16 % of 64 × 576",
        "whole: rank 10 of 10 x 64 saves nothing; up to 8 would",
    ):
        assert expected in page.text, expected
    assert page.tags.count("svg") == 1 + 2 + 5


def test_a_failed_proof_and_a_missed_target_stand_out():
    failed = replace(
        REPORT,
        proof=replace(REPORT.proof, passed=False),
        reached=replace(REPORT.reached, met=False),
    )
    text = _Page(render_html(build_report(failed))).text
    assert "proof FAILED" in text
    assert "the target was not met" in text


def test_a_latency_that_was_not_measured_has_no_heading():
    assert "Latency" in _Page(render_html(build_report(REPORT))).text
    assert "Latency" not in _Page(render_html(build_report(replace(REPORT, latency=None)))).text


def test_what_was_not_measured_has_no_curve():
    report = replace(REPORT, layers=(), matrices=())
    assert "svg" not in _Page(render_html(build_report(report))).tags


def test_a_weight_is_named_and_a_certificate_of_zero_is_said():
    history = tuple(replace(epoch, certificate=0.0) for epoch in HISTORY)
    report = replace(
        REPORT,
        asked=Asked(weight=2e-5),
        training=replace(REPORT.training, history=history),
    )
    text = _Page(render_html(build_report(report))).text
    assert "λ was 2e-05 in every step" in text
    assert "the certificate was 0" in text
    assert "A target has no" not in text


def test_the_removal_is_marked_where_training_went_on():
    def page(removal: int | None) -> str:
        training = replace(TRAINED.training, removal_epoch=removal)
        return render_html(build_report(replace(TRAINED, training=training)))

    assert "taken out after epoch 2, at the dotted line" in " ".join(_Page(page(2)).text.split())
    assert "dotted line" not in page(None)
    assert "the files against the smaller one after its further training" in page(2)
    untrained = render_html(build_report(replace(TRAINED, training=None)))
    assert "further training" not in page(None) + untrained
    # An epoch that never was is not drawn: it would stretch the axis.
    assert page(2).count("stroke-dasharray") == 5
    assert page(10**9).count("stroke-dasharray") == 0


def test_labels_of_a_logarithmic_curve_are_no_formulas():
    assert "mathdefault" not in render_html(build_report(TRAINED))


def test_the_page_asks_for_nothing():
    text = render_html(build_report(TRAINED))
    page = _Page(text)
    assert len(text) < 2_000_000
    assert not {"script", "link", "iframe", "img", "object", "embed", "form"} & set(page.tags)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    loading = [v for name, v in page.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in loading)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "url(http" not in text


def test_names_are_no_markup():
    hostile = replace(
        TRAINED,
        model=replace(REPORT.model, name=HOSTILE, weights=HOSTILE),
        data=replace(REPORT.data, description=HOSTILE, fingerprint=HOSTILE),
        accuracy=replace(REPORT.accuracy, metric=HOSTILE + "$x_{"),
        groups=(replace(REPORT.groups[0], name=HOSTILE, parameters=(HOSTILE,)),),
        layers=(replace(REPORT.layers[0], name=HOSTILE, kind=HOSTILE, groups=(HOSTILE,)),),
        fixed=(replace(REPORT.fixed[0], name=HOSTILE, reason=HOSTILE, operator=HOSTILE),),
        files=(replace(REPORT.files[0], name=HOSTILE, sha256=HOSTILE),),
        latency=replace(
            LATENCY,
            device=HOSTILE,
            measurements=(replace(LATENCY.measurements[0], runtime=HOSTILE),),
        ),
        layout=HOSTILE,
        notes=(HOSTILE,),
        reproducibility=replace(
            REPORT.reproducibility,
            command=HOSTILE,
            versions={HOSTILE: HOSTILE},
            config={HOSTILE: HOSTILE},
        ),
    )
    page = _Page(render_html(build_report(hostile)))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "alert(1)" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "\x1b" not in page.text


def test_the_same_report_gives_the_same_page():
    assert render_html(build_report(TRAINED)) == render_html(build_report(TRAINED))
