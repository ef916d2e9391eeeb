"""What a CI job demands of a pruned model, decided from its report."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ramda_cli.errors import ConfigError
from ramda_cli.report.document import Accuracy, Latency, LatencyEntry, Report
from ramda_cli.report.formatting import count, measured
from ramda_cli.report.speed import milliseconds, ratio


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is demanded; None is not.

    Attributes:
        params: most parameters.
        macs: most multiply-accumulates of one input.
        size_bytes: most bytes of `model.safetensors`.
        drop: most points, hundredths of 1, that the metric may lie below the pretrained model's.
        metric: least value of the metric, in [0, 1].
        speedup: least ratio of the dense model's latency to the pruned one's, in torch.
        latency_ms: most milliseconds of the median call, in torch.
        batch_size: at which these two are judged; the largest measured for the speed-up and the
            smallest for the latency when not given.
    """

    params: int | None = None
    macs: int | None = None
    size_bytes: float | None = None
    drop: float | None = None
    metric: float | None = None
    speedup: float | None = None
    latency_ms: float | None = None
    batch_size: int | None = None


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
            text = f"{count(value)}{unit}; at most {count(limit)}"
            verdicts.append(Verdict(name, text, value <= limit))

    at_most("max-params", size.params, limits.params, " parameters")
    at_most("max-macs", size.macs, limits.macs, " MACs")
    if limits.size_bytes is not None:
        found = _model_bytes(report)
        text = f"{found / 1e6:.2f} MB; at most {limits.size_bytes / 1e6:g} MB"
        verdicts.append(Verdict("max-size-mb", text, found <= limits.size_bytes))
    if accuracy is None and (limits.drop is not None or limits.metric is not None):
        raise ConfigError(
            "the report has no accuracy: nothing was measured",
            hint="give data when you make the file: `ramda remove ... --data DATA`",
        )
    if accuracy is not None and limits.drop is not None:
        verdicts.append(_drop(accuracy, limits.drop))
    if accuracy is not None and limits.metric is not None:
        verdicts.append(_metric(accuracy, limits.metric))
    if limits.speedup is not None:
        verdicts.append(_speedup(report.latency, limits.speedup, limits.batch_size))
    if limits.latency_ms is not None:
        verdicts.append(_latency(report.latency, limits.latency_ms, limits.batch_size))
    return tuple(verdicts)


def _speedup(latency: Latency | None, limit: float, batch_size: int | None) -> Verdict:
    """Judge the median; a spread that reaches down to 1 is no speed-up at all."""
    entry = _measured(latency, batch_size, largest=True)
    if entry.speedup is None:
        raise ConfigError(
            "the dense model was not measured, so there is no speed-up",
            hint="demand a latency with --max-latency-ms",
        )
    passed = entry.speedup.median >= limit and (entry.speedup.low > 1 or limit <= 1)
    text = f"{ratio(entry.speedup)} at batch {entry.batch_size}; at least {limit:g}x"
    return Verdict("min-speedup", text, passed)


def _latency(latency: Latency | None, limit: float, batch_size: int | None) -> Verdict:
    entry = _measured(latency, batch_size, largest=False)
    median, p90 = entry.pruned.median_ms, entry.pruned.p90_ms
    text = (
        f"{milliseconds(median)} (nine of ten below {milliseconds(p90)})"
        f" at batch {entry.batch_size}; at most {limit:g} ms"
    )
    return Verdict("max-latency-ms", text, median <= limit)


def _measured(latency: Latency | None, batch_size: int | None, *, largest: bool) -> LatencyEntry:
    """Return torch's measurement at a batch size, or at the largest or smallest there is."""
    entries = () if latency is None else latency.measurements
    by_batch = {entry.batch_size: entry for entry in entries if entry.runtime == "eager"}
    if not by_batch:
        raise ConfigError("the report has no latency", hint="measure it with --measure")
    wanted = (max if largest else min)(by_batch) if batch_size is None else batch_size
    if wanted not in by_batch:
        known = " and ".join(map(str, sorted(by_batch)))
        raise ConfigError(
            f"the report has no latency at batch {wanted}, but at {known}",
            hint="give one of these, or measure it with --measure",
        )
    return by_batch[wanted]


def _drop(accuracy: Accuracy, most: float) -> Verdict:
    """Judge how much worse than the pretrained model it is: points of a share, else per cent."""
    if accuracy.dense is None:
        raise ConfigError(
            "the report has no accuracy before training, so no drop",
            hint="the head was replaced; demand an accuracy with --min-metric",
        )
    worse = accuracy.dense - accuracy.final
    if not accuracy.higher_is_better:
        worse = -worse
    scale = 1.0 if accuracy.is_share else max(abs(accuracy.dense), 1e-300)
    # To a thousandth of a point: shares are sums of floats.
    drop = round(100 * worse / scale, 3)
    side = "below" if accuracy.higher_is_better else "above"
    unit = "points" if accuracy.is_share else "%"
    text = (
        f"{accuracy.metric} {_shown(accuracy, accuracy.final)},"
        f" {drop:.2f} {unit} {side} {_shown(accuracy, accuracy.dense)}; at most {most:g}"
    )
    return Verdict("max-drop", text, drop <= most)


def _metric(accuracy: Accuracy, limit: float) -> Verdict:
    """Judge the metric itself; of one that is better when lower, the limit is the most."""
    better, bound = accuracy.higher_is_better, _shown(accuracy, limit)
    text = f"{accuracy.metric} {_shown(accuracy, accuracy.final)}"
    text += f"; at {'least' if better else 'most'} {bound}"
    return Verdict(
        "min-metric", text, accuracy.final >= limit if better else accuracy.final <= limit
    )


def _shown(accuracy: Accuracy, value: float) -> str:
    return measured(value, is_share=accuracy.is_share)


def junit(verdicts: Sequence[Verdict], *, suite: str, command: str = "check") -> str:
    """Return the verdicts of a command as JUnit XML, a test case each."""
    failures = sum(not verdict.passed for verdict in verdicts)
    root = ElementTree.Element(
        "testsuite",
        name=_clean(suite),
        tests=str(len(verdicts)),
        failures=str(failures),
        errors="0",
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(
            root, "testcase", name=_clean(verdict.name), classname=f"ramda.{command}"
        )
        if not verdict.passed:
            ElementTree.SubElement(case, "failure", message=_clean(verdict.text))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _model_bytes(report: Report) -> int:
    written = (file.bytes for file in report.files if file.name == "model.safetensors")
    return next(written, report.size.pruned.bytes)


def _clean(text: str) -> str:
    # Names come from files and of files, and XML has no place for control characters.
    return "".join(c if c.isprintable() else " " for c in text)
