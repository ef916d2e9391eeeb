"""What a CI job demands of a pruned model, decided from its report alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ramda_cli.errors import ConfigError
from ramda_cli.report.document import Report
from ramda_cli.report.formatting import count, percent


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is demanded; None is not.

    Attributes:
        params: most parameters.
        macs: most multiply-accumulates of one input.
        size_bytes: most bytes of `model.safetensors`.
        drop: most points, hundredths of 1, that the metric may lie below the pretrained model's.
        metric: least value of the metric, in [0, 1].
    """

    params: int | None = None
    macs: int | None = None
    size_bytes: float | None = None
    drop: float | None = None
    metric: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One demand and how it went.

    Attributes:
        name: the flag's name, or `proof`.
        text: both numbers, for a person.
        passed: whether it holds.
    """

    name: str
    text: str
    passed: bool


def judge(report: Report, limits: Limits) -> tuple[Verdict, ...]:
    """Return a verdict on the proof and on each demand, in the order of `Limits`.

    Raises:
        ConfigError: the report does not have what is asked about.
    """
    size, accuracy = report.size.pruned, report.accuracy
    proof = "passed" if report.proof.passed else "failed"
    verdicts = [Verdict("proof", proof, report.proof.passed)]

    def at_most(name: str, value: float, limit: float | None, unit: str) -> None:
        if limit is not None:
            text = f"{count(value)}{unit} of at most {count(limit)}{unit}"
            verdicts.append(Verdict(name, text, value <= limit))

    at_most("max-params", size.params, limits.params, " parameters")
    at_most("max-macs", size.macs, limits.macs, " MACs")
    if limits.size_bytes is not None:
        found = _model_bytes(report)
        text = f"{found / 1e6:.2f} MB of at most {limits.size_bytes / 1e6:g} MB"
        verdicts.append(Verdict("max-size-mb", text, found <= limits.size_bytes))
    if limits.drop is not None:
        if accuracy.dense is None:
            raise ConfigError(
                "the report has no accuracy before training, so no drop",
                hint="the head was replaced; demand an accuracy with --min-metric",
            )
        # To a thousandth of a point: shares are sums of floats.
        drop = round(100 * (accuracy.dense - accuracy.after_removal), 3)
        text = (
            f"{accuracy.metric} {percent(accuracy.after_removal, 2)},"
            f" {drop:.2f} points below {percent(accuracy.dense, 2)}, of at most {limits.drop:g}"
        )
        verdicts.append(Verdict("max-drop", text, drop <= limits.drop))
    if limits.metric is not None:
        text = (
            f"{accuracy.metric} {percent(accuracy.after_removal, 2)}"
            f" of at least {percent(limits.metric, 2)}"
        )
        verdicts.append(Verdict("min-metric", text, accuracy.after_removal >= limits.metric))
    return tuple(verdicts)


def junit(verdicts: Sequence[Verdict], *, suite: str) -> str:
    """Return the verdicts as JUnit XML, a test case each."""
    failures = sum(not verdict.passed for verdict in verdicts)
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(verdicts)), failures=str(failures), errors="0"
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(root, "testcase", name=verdict.name, classname="ramda.check")
        if not verdict.passed:
            ElementTree.SubElement(case, "failure", message=_clean(verdict.text))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _model_bytes(report: Report) -> int:
    written = (file.bytes for file in report.files if file.name == "model.safetensors")
    return next(written, report.size.pruned.bytes)


def _clean(text: str) -> str:
    # A metric's name comes from the file, and XML has no place for control characters.
    return "".join(c if c.isprintable() else " " for c in text)
