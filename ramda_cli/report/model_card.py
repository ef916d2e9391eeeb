"""The model card of a run: a README.md with metadata that the Hugging Face hub understands."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from ramda_cli.report.document import DataEntry, Report
from ramda_cli.report.formatting import percent, share_of, text_of
from ramda_cli.report.markdown import (
    accuracy_table,
    escaped,
    latency_table,
    proof_table,
    size_table,
)
from ramda_cli.report.phrases import (
    asked_text,
    data_text,
    made_with,
    reached_amount,
    training_text,
)
from ramda_cli.report.plain import parse_report

_HUB_ID: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_HUB_WEIGHTS: Final = re.compile(rf"hf-hub:({_HUB_ID.pattern})@\w+", re.ASCII)
# Of what timm names, the abbreviations that the hub has too; any other would be refused.
_LICENSES: Final = frozenset(
    ("apache-2.0", "apple-amlr", "apple-ascl", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0")
) | {"gemma", "mit"}
_PIPELINES: Final = {"language-modeling": "text-generation", "masked-image-modeling": None}
"""Tasks of which the hub has no name, by the pipeline that they belong to."""
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
    metadata = _metadata(report, details.get("task")).to_yaml()
    blocks = (
        _headline(report),
        size_table(report),
        *([] if report.accuracy is None else [accuracy_table(report.accuracy)]),
        *([] if report.latency is None else [latency_table(report.latency)]),
        "## How to use it",
        _usage(report, details.get("preprocessing")),
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


def _metadata(report: Report, task: str | None) -> ModelCardData:
    hub_id = None if report.data is None else report.data.hub_id
    dataset = hub_id if hub_id and _HUB_ID.fullmatch(hub_id) else None
    results = None
    if report.data is not None and report.accuracy is not None:
        name = _data_name(report.data)
        results = [
            EvalResult(
                task_type=str(task),
                dataset_type=dataset or re.sub(r"[^\w.]+", "-", name).strip("-"),
                dataset_name=name,
                metric_type=report.accuracy.hub_id,
                metric_name=text_of(report.accuracy.metric).plain,
                metric_value=report.accuracy.final,
            )
        ]
    return ModelCardData(
        library_name="ramda-cli",
        pipeline_tag=_PIPELINES.get(str(task), task),
        license=report.model.license if report.model.license in _LICENSES else None,
        base_model=_base_model(report),
        datasets=None if dataset is None else [dataset],
        metrics=[report.accuracy.hub_id] if results and report.accuracy else None,
        tags=["pruning", "structured-pruning", "ramda"],
        model_name=_title(report),
        eval_results=results,
    )


def _title(report: Report) -> str:
    macs = percent(share_of(report.size.pruned.macs, report.size.dense.macs))
    return f"{text_of(report.model.name).plain}, {macs} of the MACs"


def _data_name(data: DataEntry) -> str:
    """Return the data set's name; of a directory, its last part."""
    name = text_of(data.description.partition(": ")[0]).plain
    return name if data.hub_id else PurePath(name).name or "data"


def _headline(report: Report) -> str:
    source = escaped(report.model.name)
    if hub_id := _base_model(report):
        source = f"[{source}](https://huggingface.co/{hub_id})"
    if report.data is None or report.training is None:
        made = "a checkpoint in which another tool had zeroed whole channels,"
    else:
        data = escaped(_data_name(report.data))
        made = f"fine-tuned on {data} until {_zeros(report) or 'the run ended'},"
    figures = "" if report.accuracy is None else " The figures are of the validation data."
    return (
        f"# {escaped(_title(report))}\n\n{source}, {made} and made smaller by that."
        f" It changed nothing: see the proof below.{figures}"
    )


def _zeros(report: Report) -> str:
    zeros = ["whole channels were exactly zero"] if report.groups or not report.matrices else []
    if _ranks(report):
        zeros.append("weights had exactly lower ranks")
    return " and ".join(zeros)


def _ranks(report: Report) -> bool:
    return any(entry.factorized for entry in report.matrices)


def _usage(report: Report, preprocessing: Mapping[str, Any] | None) -> str:
    lines = [
        "```python",
        "# pip install ramda-cli",
        "import ramda_cli",
        *(["import transformers"] if "max_length" in (preprocessing or {}) else []),
        "",
        'model = ramda_cli.load("model.safetensors")  # a torch module in eval mode',
        *(() if preprocessing is None else _call(report, preprocessing)),
        "```",
        "",
        *(() if preprocessing is None else (_inputs(preprocessing),)),
        "Loading needs no base weights, no pickle and no code from this repository."
        f" The file holds a {escaped(report.layout)}.",
    ]
    if report.size.pruned.channels < report.size.dense.channels or _ranks(report):
        lines.append(
            "`timm.create_model` and `from_pretrained` alone build the dense layers, so they"
            " cannot load it."
        )
    if any(file.name == "model.onnx" for file in report.files):
        lines.append("`model.onnx` holds the same model for ONNX Runtime.")
    return "\n".join(lines)


def _call(report: Report, preprocessing: Mapping[str, Any]) -> list[str]:
    if "max_length" in preprocessing:
        return [
            'tokenizer = transformers.AutoTokenizer.from_pretrained(".")',
            'outputs = model(**tokenizer("a text", return_tensors="pt"))',
        ]
    if "segment_length" in preprocessing:
        return [
            "said, memory = model(tokens, model.no_memory(len(tokens)))"
            "  # log probabilities of the next words"
        ]
    if "n_mels" in preprocessing:
        return ["mels, lengths = model.generate(text)  # ids N x L to frames N x T x mels"]
    shape = " x ".join(str(size) for size in preprocessing["input_size"])
    if "masking" in preprocessing:
        return [
            "outputs = model(pixel_values=images, bool_masked_pos=hidden)",
            f"painted = outputs.reconstruction  # N x {shape}; hidden: N x patches, boolean",
        ]
    return [f"logits = model(images)  # N x {shape} to N x {report.model.classes}"]


def _inputs(preprocessing: Mapping[str, Any]) -> str:
    if "max_length" in preprocessing:
        return (
            f"Texts of up to {preprocessing['max_length']:,} tokens were seen in training; the"
            " tokenizer lies beside the model, and the labels are in the file's header."
        )
    if "segment_length" in preprocessing:
        return (
            f"Words were read in segments of {preprocessing['segment_length']:,}, with a memory of"
            f" {preprocessing['memory_length']:,}; `tokenizer.json` has their numbers."
        )
    if "n_mels" in preprocessing:
        return (
            f"Character number i of those in the file's header has the id i + 1; frames are the"
            f" logarithms of {preprocessing['n_mels']} mels, every {preprocessing['hop']:,} samples"
            f" at {preprocessing['sampling_rate_hz']:,} Hz."
        )
    _, height, width = preprocessing["input_size"]
    mean, std = (_numbers(preprocessing[name]) for name in ("mean", "std"))
    return (
        f"Images are resized so that the crop of {height} x {width} keeps"
        f" {percent(preprocessing['crop_pct'])} of a side"
        f" ({escaped(preprocessing['interpolation'])}), scaled to [0, 1], and normalised with mean"
        f" {mean} and deviation {std}; this and the labels are in the file's header."
    )


def _origin(report: Report) -> str:
    again = report.reproducibility
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
            f"- data: {escaped(data_text(report))}"
            + ("" if report.data is None else f" (fingerprint {escaped(report.data.fingerprint)})"),
            f"- asked: {escaped(asked)}; reached: {escaped(reached)}",
            f"- training: {escaped(training_text(report))}"
            + (f" ({_PAPER})" if report.training and report.training.method == "RAMDA" else ""),
            f"- versions: {escaped(made_with(report))}",
            "",
            "`config.yaml` holds every setting, and `report.html` the curves, each layer's width"
            " and every hash.",
        )
    )


def _proof(report: Report) -> str:
    return (
        "The smaller model against the trained one, on validation images where there"
        " were any and on random probes; a run that misses a tolerance writes no result.\n\n"
        f"{proof_table(report)}"
    )


def _limits(report: Report) -> str:
    classes = report.model.classes
    knows = f"It tells {classes} classes apart and knows no others. " if classes else ""
    return "\n".join(
        (
            "- The proof compares the models before and after the removal. What training gained or"
            " lost is in the table of accuracy, and it was measured on one data set.",
            f"- {knows}What the starting weights and the data are biased to, it is too.",
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
