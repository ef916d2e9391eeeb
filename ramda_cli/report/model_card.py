"""The model card of a run: a README.md with metadata that the Hugging Face hub understands."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from ramda_cli.report.document import Report
from ramda_cli.report.formatting import count, duration, percent, share_of, text_of
from ramda_cli.report.markdown import (
    accuracy_table,
    escaped,
    latency_table,
    proof_table,
    size_table,
)
from ramda_cli.report.plain import parse_report
from ramda_cli.report.terminal import asked_text, reached_amount

_HUB_ID: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_HUB_WEIGHTS: Final = re.compile(rf"hf-hub:({_HUB_ID.pattern})@\w+", re.ASCII)
# Of what timm names, the abbreviations that the hub has too; any other would be refused.
_LICENSES: Final = frozenset(
    ("apache-2.0", "apple-amlr", "apple-ascl", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0")
) | {"gemma", "mit"}
_PAPER: Final = "[Huang and Lee, NeurIPS 2024](https://arxiv.org/abs/2403.14398)"


def render_card(document: object, details: Mapping[str, Any]) -> str:
    """Return a report document as a model card.

    Every text of the document is escaped, in the metadata as in the text.

    Args:
        document: the report.
        details: what the header says of task and preprocessing.

    Raises:
        FileFormatError: if `document` is not a report of this schema.
    """
    report = parse_report(document)
    metadata = _metadata(report, str(details["task"])).to_yaml()
    blocks = (
        _headline(report),
        size_table(report),
        accuracy_table(report),
        *([] if report.latency is None else [latency_table(report.latency)]),
        "## How to use it",
        _usage(report, details["preprocessing"]),
        "## How it was made",
        _origin(report),
        "## Proof",
        _proof(report),
        "## Limits",
        _limits(report),
    )
    return f"---\n{metadata}\n---\n\n" + "\n\n".join(blocks) + "\n"


def _base_model(report: Report) -> str | None:
    """Return the hub id of the weights that the run started from, if they came from the hub."""
    found = _HUB_WEIGHTS.fullmatch(report.model.weights)
    return found[1] if found else None


def _metadata(report: Report, task: str) -> ModelCardData:
    hub_id = report.data.hub_id
    dataset = hub_id if hub_id and _HUB_ID.fullmatch(hub_id) else None
    result = EvalResult(
        task_type=task,
        dataset_type=dataset or re.sub(r"[^\w.]+", "-", _data_name(report)).strip("-"),
        dataset_name=_data_name(report),
        metric_type="accuracy",
        metric_name=text_of(report.accuracy.metric).plain,
        metric_value=report.accuracy.after_removal,
    )
    return ModelCardData(
        library_name="ramda-cli",
        pipeline_tag=task,
        license=report.model.license if report.model.license in _LICENSES else None,
        base_model=_base_model(report),
        datasets=None if dataset is None else [dataset],
        metrics=["accuracy"],
        tags=["pruning", "structured-pruning", "ramda"],
        model_name=_title(report),
        eval_results=[result],
    )


def _title(report: Report) -> str:
    macs = percent(share_of(report.size.pruned.macs, report.size.dense.macs))
    return f"{text_of(report.model.name).plain}, {macs} of the MACs"


def _data_name(report: Report) -> str:
    """Return the data set's name; of a directory, its last part."""
    name = text_of(report.data.description.partition(": ")[0]).plain
    return name if report.data.hub_id else PurePath(name).name or "data"


def _headline(report: Report) -> str:
    source = escaped(report.model.name)
    if hub_id := _base_model(report):
        source = f"[{source}](https://huggingface.co/{hub_id})"
    return (
        f"# {escaped(_title(report))}\n\n"
        f"{source}, fine-tuned on {escaped(_data_name(report))} until whole channels were exactly"
        " zero, and without these channels. Taking them out changed nothing: see the proof below."
        " The figures are of the validation data."
    )


def _usage(report: Report, preprocessing: Mapping[str, Any]) -> str:
    channels, height, width = preprocessing["input_size"]
    mean, std = (_numbers(preprocessing[name]) for name in ("mean", "std"))
    lines = [
        "```python",
        "# pip install ramda-cli",
        "import ramda_cli",
        "",
        'model = ramda_cli.load("model.safetensors")  # a torch module in eval mode',
        f"logits = model(images)  # N x {channels} x {height} x {width} to"
        f" N x {report.model.classes}",
        "```",
        "",
        f"Images are resized so that the crop of {height} x {width} keeps"
        f" {percent(preprocessing['crop_pct'])} of a side"
        f" ({escaped(preprocessing['interpolation'])}), scaled to [0, 1], and normalised with mean"
        f" {mean} and deviation {std}; this and the labels are in the file's header.",
        "Loading needs no base weights, no pickle and no code from this repository."
        f" The file holds a {escaped(report.layout)}.",
    ]
    if report.size.pruned.channels < report.size.dense.channels:
        lines.append(
            "`timm.create_model` and `from_pretrained` alone build the dense widths, so they"
            " cannot load it."
        )
    if any(file.name == "model.onnx" for file in report.files):
        lines.append("`model.onnx` holds the same model for ONNX Runtime.")
    return "\n".join(lines)


def _origin(report: Report) -> str:
    again, training = report.reproducibility, report.training
    versions = ", ".join(f"{name} {version}" for name, version in again.versions.items())
    asked = asked_text(report.asked).plain
    reached = " and ".join(
        f"{percent(each.share)} ({reached_amount(each).plain})"
        for each in (report.reached, *report.further)
    )
    return "\n".join(
        (
            f"    {text_of(again.command).plain}",
            "",
            f"- start: {escaped(report.model.weights)}",
            f"- data: {escaped(report.data.description)}"
            f" (fingerprint {escaped(report.data.fingerprint)})",
            f"- asked: {escaped(asked)}; reached: {escaped(reached)}",
            f"- training: {escaped(training.method)} ({_PAPER}), {training.epochs} epochs,"
            f" {count(training.steps)} steps, {duration(training.seconds)} on"
            f" {escaped(again.device)}, seed {again.seed}",
            f"- versions: {escaped(versions)}, {escaped(again.date)}",
            "",
            "`config.yaml` holds every setting, and `report.html` the curves, each layer's width"
            " and every hash.",
        )
    )


def _proof(report: Report) -> str:
    return (
        "The smaller model against the trained one with its zero channels, on validation images"
        " and random probes; a run that misses a tolerance writes no result.\n\n"
        f"{proof_table(report)}"
    )


def _limits(report: Report) -> str:
    return "\n".join(
        (
            "- The proof compares the models before and after the removal. What training gained or"
            " lost is in the table of accuracy, and it was measured on one data set.",
            f"- It tells {report.model.classes} classes apart and knows no others. What the"
            " starting weights and the data are biased to, it is too.",
            "- Fewer MACs need not mean less time: `ramda bench model.safetensors` measures.",
            *(
                ()
                if report.model.license in _LICENSES
                else (
                    "- The licence of the starting weights is not recorded; it and the data's"
                    " bind this model.",
                )
            ),
        )
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
