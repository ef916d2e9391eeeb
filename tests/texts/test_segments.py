"""Running text in segments, and training a model that hands its memory from one to the next."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn

from ramda_cli.config.schema import DataConfig, RunConfig, TrainingConfig
from ramda_cli.data.text.segments import SegmentBatches
from ramda_cli.data.text.vocabulary import learn_vocabulary
from ramda_cli.errors import ConfigError, DataError, Interrupted
from ramda_cli.export import OnnxModel, load
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import prune
from ramda_cli.pipeline.evaluate import evaluate
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.loading import load_run
from ramda_cli.pipeline.verify import verify
from ramda_cli.tasks import IGNORED, LANGUAGE_MODELING, Carried
from ramda_cli.training import evaluate as measure
from ramda_cli.training.objective import Objective
from ramda_cli.training.passes import Passes
from tests.pipeline.recording import Recorder

WORDS = ("the", "cat", "dog", "sees", "a", "bird", "and", "then", "sleeps", ".")


def text(lines: int, seed: int) -> str:
    draws = np.random.default_rng(seed)
    rows = (" ".join(draws.choice(WORDS, size=draws.integers(3, 9))) for _ in range(lines))
    return "\n".join(rows) + "\n"


def config_of(tmp_path: Path, **sections: dict[str, Any]) -> RunConfig:
    folder = tmp_path / "text"
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text(text(120, 0))
    (folder / "valid.txt").write_text(text(50, 1) + "a zebra sleeps .\n")
    arguments = {
        "vocab_size": 12, "cutoffs": [6], "d_model": 8, "n_layer": 1, "n_head": 2, "d_head": 4,
        "d_inner": 8, "tgt_len": 6, "mem_len": 5,
    }  # fmt: skip
    document: dict[str, Any] = {
        "model": {"name": "transformer-xl", "arguments": arguments},
        "data": {"name": str(folder), "batch_size": 4, "eval_batch_size": 3},
        "structure": {"penalize": "paper", "keep": ["softmax*"]},
        "training": {"epochs": 2, "device": "cpu", "weight": 1e-4, "lr": 1e-2},
        "output": {"directory": str(tmp_path / "out"), "bench": False, "onnx": False},
    }
    for name, values in sections.items():
        document[name] = {**document[name], **values}
    return RunConfig.model_validate(document)


def batches_of(words: list[int], *, streams: int, length: int, whole: bool) -> SegmentBatches:
    return SegmentBatches(
        np.array(words), batch_size=streams, length=length, whole=whole,
        empty=lambda batch: torch.zeros(batch, 1, 2, 3),
    )  # fmt: skip


def test_segments_follow_each_other_and_every_word_is_predicted_once() -> None:
    batches = batches_of([*range(24)], streams=3, length=3, whole=True)
    seen: list[list[int]] = [[], [], []]
    for inputs, targets in batches:
        assert isinstance(inputs, dict)
        assert torch.equal(inputs["targets"], targets)
        assert inputs["memory"].shape == (3, 1, 2, 3)
        for stream, (tokens, aims) in enumerate(zip(inputs["tokens"], targets, strict=True)):
            counted = aims != IGNORED
            assert torch.equal(aims[counted], tokens[counted] + 1)
            seen[stream] += aims[counted].tolist()
    assert sum(seen, []) == [*range(1, 24)]  # noqa: RUF017
    assert len(batches) == 3
    training = batches_of([*range(24)], streams=3, length=3, whole=False)
    assert [targets.shape for _, targets in training] == [(3, 3), (3, 3)]


def test_a_pass_begins_where_it_is_told_and_is_shared_out() -> None:
    batches = batches_of([*range(41)], streams=4, length=2, whole=False)
    every = [targets for _, targets in batches]
    batches.set_epoch(7, first=3)
    later = [targets for _, targets in batches]
    assert len(later) == len(every) - 3
    assert all(torch.equal(a, b) for a, b in zip(every[3:], later, strict=True))
    batches.take_part(1, 2)
    assert torch.equal(next(iter(batches))[1], every[0][2:])


class Echo(nn.Module):
    """Says what it was given."""

    def forward(self, tokens: Tensor, memory: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return -memory.mean() * torch.ones(tokens.shape), memory + 1


def test_validation_hands_the_memory_on_and_training_forgets_it_between_passes() -> None:
    batches = batches_of([*range(13)], streams=2, length=2, whole=True)
    # Three segments of memories 0, 1 and 2.
    value = measure(Echo(), LANGUAGE_MODELING, batches, device=torch.device("cpu"))
    assert value == pytest.approx(np.exp(1.0))
    carried = Carried(LANGUAGE_MODELING)
    carried.keep((torch.zeros(1), torch.full((1,), torch.inf)))
    assert carried.memory is None


def test_every_pass_over_the_text_begins_without_a_memory(tmp_path: Path) -> None:
    loaded, data = load_run(config_of(tmp_path))
    model, given = loaded.module, []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: given.append(float(kwargs["memory"].abs().sum())), with_kwargs=True
    )
    config, cpu = TrainingConfig(epochs=2), torch.device("cpu")
    passes = Passes(
        data, config, Objective(model, config, data.task), device=cpu, observer=SilentObserver()
    )
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in (1, 2):
        passes.run(
            epoch, model, optimizer, first_step=0, before_step=optimizer.zero_grad,
            after_step=lambda: None, passed_over=lambda: None, shown=dict,
        )  # fmt: skip
    assert passes.per_epoch > 2
    first, second = given[: passes.per_epoch], given[passes.per_epoch :]
    for memories in (first, second):
        assert memories[0] == 0
        assert all(memory > 0 for memory in memories[1:])


def test_the_vocabulary_is_learned_and_travels_with_the_model(tmp_path: Path) -> None:
    config, recorder = config_of(tmp_path), Recorder()
    loaded, data = load_run(config)
    assert loaded.tokenizer is data.tokenizer
    assert len(data.tokenizer) == 12
    lines = data.tokenizer(["a zebra", ""])["input_ids"]
    assert lines[0][1:] == [0, 1]
    assert lines[1] == [1]
    assert "are not in the vocabulary of 12" in data.notes[0]
    report = prune(config, recorder)
    accuracy: Any = report["accuracy"]
    assert accuracy["metric"] == "perplexity"
    # In float32 the sums over fewer channels are rounded another way.
    assert accuracy["before_removal"] == pytest.approx(accuracy["after_removal"], rel=1e-6)
    out = config.output.directory
    again = evaluate(out / "model.safetensors", config.data, device="cpu")
    assert again["value"] == pytest.approx(accuracy["after_removal"], rel=1e-6)
    card = (out / "README.md").read_text()
    assert "pipeline_tag: text-generation" in card
    assert "model.no_memory" in card
    (out / "tokenizer.json").unlink()
    with pytest.raises(Exception, match="the words of the model cannot be read"):
        evaluate(out / "model.safetensors", config.data, device="cpu")


def test_the_onnx_file_knows_no_targets_and_says_all_words(tmp_path: Path) -> None:
    config = config_of(tmp_path, output={"onnx": True}, training={"epochs": 1})
    report = prune(config, Recorder())
    accuracy: Any = report["accuracy"]
    assert accuracy["onnx"] == pytest.approx(accuracy["after_removal"], rel=1e-5)
    out = config.output.directory
    model, run = load(out / "model.safetensors"), OnnxModel(out / "model.onnx")
    memory = torch.randn(3, 1, 5, 8)
    for length in (6, 9, 1):
        tokens = torch.randint(12, (3, length))
        said, kept = run.on({"tokens": tokens, "memory": memory})
        with torch.no_grad():
            expected = model(tokens, memory)
        assert said.shape == (3, length, 12)
        assert torch.allclose(said, expected[0], atol=1e-5)
        assert torch.allclose(kept, expected[1], atol=1e-5)
    verified: Any = verify(out)
    assert all(verdict["passed"] for verdict in verified["checks"])
    assert any(verdict["name"].startswith("model.onnx,") for verdict in verified["checks"])


def rows_of(*lines: str | None) -> Dataset:
    return Dataset.from_dict({"text": list(lines)})


def test_words_that_the_text_itself_leaves_out_are_unknown_ones() -> None:
    plain = learn_vocabulary(rows_of("b b b a a", "c"), "text", size=4)
    assert plain.get_vocab() == {"<unk>": 0, "<eos>": 1, "b": 2, "a": 3}
    lines = rows_of("<unk> b <unk> b <unk> b <unk>", "<eos> a a", "c")
    words = learn_vocabulary(lines, "text", size=4)
    assert words.get_vocab() == plain.get_vocab()
    assert (words.unk_token_id, words.eos_token_id) == (0, 1)
    assert words(["b <unk> c", "a"])["input_ids"] == [[2, 0, 0, 1], [3, 1]]


def test_a_note_tells_unknown_words_from_those_the_text_leaves_out(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    folder = tmp_path / "text"
    # 120 words with the ends of lines.
    (folder / "valid.txt").write_text(
        "the <unk> cat sees <unk>\n" * 18 + "the zebra zebra sees .\n" * 2
    )
    (note,) = load_run(config)[1].notes
    assert note == (
        "3.3% of the validation words are not in the vocabulary of 12;"
        " 30.0% more are <unk> in the text itself"
    )


@pytest.mark.slow
def test_the_model_learns_more_with_its_memory(tmp_path: Path) -> None:
    """What comes next is what came six words ago, which only the memory knows."""
    folder = tmp_path / "text"
    config = config_of(
        tmp_path, training={"epochs": 12, "weight": 0.0, "method": "proxgen", "lr": 1e-2}
    )
    draws = np.random.default_rng(0)
    period = [str(number) for number in draws.integers(0, 9, size=6)]
    for name, repeats in (("train", 400), ("valid", 60)):
        lines = []
        for _ in range(repeats // 20):
            period = [str(number) for number in draws.permutation(9)[:6]]
            lines += period * 20
        (folder / f"{name}.txt").write_text(" ".join(lines))
    prune(config, Recorder())
    _, data = load_run(config)
    model = load(config.output.directory / "model.safetensors")
    cpu = torch.device("cpu")
    with_memory = measure(model, data.task, data.val, device=cpu)

    class NoMemory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, tokens: Tensor, memory: Tensor, targets: Tensor) -> Any:
            return self.inner(tokens, torch.zeros_like(memory), targets)

    without = measure(NoMemory(), data.task, data.val, device=cpu)
    assert with_memory < 0.8 * without


@pytest.mark.slow
def test_a_run_that_was_stopped_within_a_pass_goes_on_with_its_memory(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    prune(config, Recorder())
    out = config.output.directory
    expected = (out / "model.safetensors").read_bytes()
    out.rename(tmp_path / "undisturbed")
    follow = Fit._after_step

    def asked(fit: Fit) -> None:
        fit._stop.asked = fit._training._passes.step == 5
        follow(fit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "_after_step", asked)
        with pytest.raises(Interrupted):
            prune(config, Recorder(), resume=True)
    prune(config, Recorder(), resume=True)
    assert (out / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"precision": "fp16"}, "training.precision fp16"), ({"auto_batch": True}, "auto_batch")],
)
def test_what_does_not_go_with_a_memory_is_refused(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        prune(config_of(tmp_path, training=settings), Recorder())


def table_of(tmp_path: Path, train: str, valid: str, *, kind: str = "csv") -> RunConfig:
    """Return a run on two files of a table in place of the text."""
    config = config_of(tmp_path)
    folder = tmp_path / "table"
    folder.mkdir(exist_ok=True)
    (folder / f"train.{kind}").write_text(train)
    (folder / f"valid.{kind}").write_text(valid)
    data = config.data.model_copy(update={"name": str(folder), "batch_size": 1})
    return config.model_copy(update={"data": data})


@pytest.mark.parametrize(
    ("kind", "head", "line", "missing"),
    [("csv", "text,number\n", "the cat sees,1\n", ",2\n"),
     ("jsonl", "", '{"text": "the cat sees"}\n', '{"text": null}\n')],
)  # fmt: skip
def test_a_missing_text_is_an_empty_line(
    tmp_path: Path, kind: str, head: str, line: str, missing: str
) -> None:
    rows = head + line * 2 + missing + line * 2
    data = load_run(table_of(tmp_path, rows, rows, kind=kind))[1]
    assert "17 training and 17 validation words" in data.description
    (first, targets), *_ = data.val
    assert isinstance(first, dict)
    numbers = data.tokenizer("the cat sees")["input_ids"]
    assert torch.cat([first["tokens"][0, :1], targets[0]])[:7].tolist() == [*numbers, *numbers[:3]]


@pytest.mark.parametrize(
    ("valid", "message"),
    [("words\nthe cat\n", "validation split has no column 'text'"),
     ("text\n7\n", "the column 'text' of .*validation split does not hold texts"),
     ("", "the validation split of .* is empty: .*valid.csv holds nothing")],
)  # fmt: skip
def test_a_validation_split_of_another_kind_is_told(
    tmp_path: Path, valid: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_run(table_of(tmp_path, "text\n" + "the cat\n" * 9, valid))
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["train", "valid"])
def test_an_empty_text_is_told(tmp_path: Path, kind: str) -> None:
    config = config_of(tmp_path)
    (tmp_path / "text" / f"{kind}.txt").write_text("")
    with pytest.raises(DataError, match=f"is empty: .*{kind}.txt holds nothing"):
        load_run(config)


def test_text_that_does_not_do_is_told(tmp_path: Path) -> None:
    config = config_of(tmp_path, data={"batch_size": 400})
    with pytest.raises(DataError, match="too few for 400 segments of 6"):
        load_run(config)
    (tmp_path / "text" / "valid.txt").unlink()
    with pytest.raises(DataError, match="no validation split"):
        load_run(config)
    missing = DataConfig(name="./data/wikitext-103")
    with pytest.raises(DataError) as caught:
        load_run(config.model_copy(update={"data": missing}))
    assert "Salesforce/wikitext" in str(caught.value.hint)
