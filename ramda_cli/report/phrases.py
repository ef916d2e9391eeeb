"""What every view of a report says in the same words."""

from rich.text import Text

from ramda_cli.report.document import Accuracy, Asked, ModelEntry, Reached, Report
from ramda_cli.report.formatting import (
    count,
    counted,
    duration,
    measured,
    percent,
    size_bytes,
    text_of,
)

_UNITS = {
    "macs": "MACs",
    "params": "parameters",
    "channels": "channels",
    "heads": "attention heads",
    "ffn": "feed-forward units",
    "body_macs": "MACs without the vocabulary",
    "body_params": "parameters without the vocabulary",
    "size_mb": "size",
    "latency": "latency",
}


def unit_of(metric: str) -> str:
    """Return what a metric counts, for a person."""
    return _UNITS.get(metric, metric)


def asked_text(asked: Asked) -> Text:
    """Return what was asked for, as a person says it."""
    amounts = dict(asked.amounts)
    if not amounts and asked.metric is not None and asked.amount is not None:
        amounts = {asked.metric: asked.amount}
    if amounts:
        said = " and ".join(_amount(metric, amount) for metric, amount in amounts.items())
    elif asked.weight is not None:
        said = f"regularization weight {asked.weight:g}"
        if asked.regularizer == "group-mcp":
            said += ", group MCP"
    else:
        said = "the channels that were zero"
    if asked.low_rank:
        patterns = " ".join(asked.low_rank)
        said += f", lower ranks in {'all layers' if patterns == '*' else patterns}"
        if asked.rank_weight is not None and asked.rank_weight != asked.weight:
            said += f" with weight {asked.rank_weight:g}"
    if asked.round_to > 1:
        said += f", widths in multiples of {asked.round_to}"
    if asked.layout == "uniform":
        said += ", equal widths in layers that are alike"
    return text_of(said)


def _amount(metric: str, amount: float) -> str:
    unit = unit_of(metric)
    if amount <= 1:
        return f"{percent(amount)} of the {unit}"
    match metric:
        case "size_mb":
            return f"{amount:g} MB"
        case "latency":
            return f"{amount:g} ms"
        case _:
            return f"{count(amount)} {unit}"


def reached_amount(reached: Reached) -> Text:
    """Return how much is left, and of how much that was asked for."""
    amounts = [_count(reached.metric, reached.count)]
    if reached.requested_count is not None:
        amounts.append(f"{_count(reached.metric, reached.requested_count)} asked for")
    return text_of(" of ".join(amounts))


def _count(metric: str, value: float) -> str:
    match metric:
        case "size_mb":
            return size_bytes(value)
        case "latency":
            return f"{value / 1e6:.4g} ms"
        case _:
            return count(value)


def training_text(report: Report) -> str:
    """Return how the model was trained, where and with which seed."""
    training, again = report.training, report.reproducibility
    if training is None:
        return "none: the zeros were there"
    epochs = counted(training.epochs, "epoch")
    if training.removal_epoch is not None:
        epochs += f" (removal after {training.removal_epoch})"
    parts = [training.method, epochs, counted(training.steps, "step")]
    if training.seconds is None:
        parts.append(f"on {again.device}")
    else:
        parts.append(f"{duration(training.seconds)} on {again.device}")
    skipped = sum(epoch.skipped_steps for epoch in training.history)
    if skipped:
        parts.append(f"{counted(skipped, 'step')} without a finite gradient skipped")
    return ", ".join((*parts, f"seed {again.seed}"))


def made_with(report: Report) -> str:
    """Return the versions, and the date where it is known."""
    again = report.reproducibility
    versions = [f"{name} {version}" for name, version in again.versions.items()]
    return ", ".join(versions if again.date is None else [*versions, again.date])


def accuracy_text(accuracy: Accuracy) -> str:
    """Return the metric of the result, and that nothing changed at the removal."""
    before, after, final = (
        measured(value, is_share=accuracy.is_share)
        for value in (accuracy.before_removal, accuracy.after_removal, accuracy.final)
    )
    same = accuracy.before_removal == accuracy.after_removal
    removal = (
        f"{before} before and after the removal"
        if same
        else f"{before} before and {after} after the removal"
    )
    if accuracy.recovered is None:
        return f"{accuracy.metric} {removal}"
    return f"{accuracy.metric} {final}, trained further from {removal}"


def model_text(model: ModelEntry) -> str:
    """Return which model it was; one without classes is no classifier."""
    classes = f", {model.classes} classes" if model.classes else ""
    return f"{model.name}{classes}, weights: {model.weights}"


def data_text(report: Report) -> str:
    """Return which data it was, or what took its place."""
    return "none: compared on random inputs" if report.data is None else report.data.description
