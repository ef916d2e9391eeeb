"""What tables of texts become, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ramda_cli.config.schema import DataConfig, ModelConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.text import TextBatches
from ramda_cli.errors import RamdaError
from ramda_cli.models.loading import load_model
from ramda_cli.pipeline.loading import fit_head, load_data
from ramda_cli.tasks import IGNORED
from tests.texts.models import (
    WORDS,
    answered,
    classified,
    sentences,
    tagged,
    tokenizer,
    write_csv,
    write_lines,
    write_model,
    written,
)

_KINDS = {
    "text-classification": "BertForSequenceClassification",
    "token-classification": "BertForTokenClassification",
    "text-generation": "LlamaForCausalLM",
    "fill-mask": "BertForMaskedLM",
    "text2text-generation": "T5ForConditionalGeneration",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {task: write_model(root / task, kind) for task, kind in _KINDS.items()}


@pytest.fixture
def load(models):
    def load(
        task: str, data: Path, *, max_length: int = 16, seed: int = 0, **settings: Any
    ) -> DataBundle:
        loaded = load_model(ModelConfig(name=str(models[task])), max_length=max_length)
        config = DataConfig(name=str(data), batch_size=4, eval_batch_size=8, **settings)
        return load_data(config, loaded, seed=seed)

    return load


def refused(load: Any, task: str, data: Path, **settings: Any) -> tuple[str, str]:
    with pytest.raises(RamdaError) as raised:
        load(task, data, **settings)
    return str(raised.value), str(raised.value.hint)


def test_classes_and_texts(load, tmp_path: Path) -> None:
    data = load("text-classification", classified(tmp_path, 30))
    assert (data.train_size, data.val_size, data.unit) == (30, 40, "texts")
    assert data.class_names == ("0", "1")
    inputs, targets = next(iter(data.val))
    words = tokenizer()
    stored = dict(sentences(40, seed=1))
    for ids, target in zip(inputs["input_ids"], targets.tolist(), strict=True):
        assert stored[words.decode(ids, skip_special_tokens=True)] == target
    assert torch.equal(inputs["attention_mask"], (inputs["input_ids"] != 0).long())


def test_each_pass_has_every_text_once_in_another_order(load, tmp_path: Path) -> None:
    def passes(seed: int) -> list[list[list[int]]]:
        train = load("text-classification", classified(tmp_path, 32), seed=seed).train
        return [[ids for x, _ in train for ids in x["input_ids"].tolist()] for _ in range(2)]

    first, second = passes(0)
    assert first != second
    whole = sorted(str([i for i in row if i]) for row in first)
    assert whole == sorted(str([i for i in row if i]) for row in second)
    assert passes(0) == [first, second]
    assert passes(1) != [first, second]


def test_a_pass_can_be_repeated(load, tmp_path: Path) -> None:
    train = load("text-classification", classified(tmp_path, 32)).train
    passes = []
    for epoch in (0, 1, 0):
        train.set_epoch(epoch)
        passes.append([x["input_ids"].tolist() for x, _ in train])
    assert passes[0] == passes[2] != passes[1]


def test_batches_are_of_texts_of_about_one_length(load, tmp_path: Path) -> None:
    rows = [(" ".join(["cat"] * n), n % 2) for n in range(1, 13) for _ in range(8)]
    write_csv(tmp_path / "t.csv", ("text", "label"), rows)
    train = load("text-classification", tmp_path / "t.csv").train
    spread = [int(x["attention_mask"].sum(1).max() - x["attention_mask"].sum(1).min())
              for x, _ in train]  # fmt: skip
    assert max(spread) <= 2
    assert isinstance(train, TextBatches)


def test_a_language_model_reads_blocks_and_aims_at_the_next_token(load, tmp_path: Path) -> None:
    data = load("text-generation", written(tmp_path), max_length=12)
    assert data.unit == "blocks"
    inputs, targets = next(iter(data.train))
    ids = inputs["input_ids"]
    assert ids.shape == targets.shape == (4, 12)
    assert torch.equal(targets[:, :-1], ids[:, 1:])
    assert (targets[:, -1] == IGNORED).all()
    assert inputs["use_cache"] is False
    # Texts end with the token for the end, and nothing is lost between blocks of a pass.
    assert int((ids == 3).sum()) > 0


def test_blocks_are_the_text_itself(load, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("the cat is good\n\na dog was bad\n" * 9)
    (tmp_path / "valid.txt").write_text("the cat is good\n\na dog was bad\n" * 9)
    data = load("text-generation", tmp_path, max_length=5)
    # In validation the rows keep their order: all are as long as each other.
    ids = torch.cat([x["input_ids"] for x, _ in data.val]).flatten().tolist()
    line = [WORDS.index(w) for w in ["the", "cat", "is", "good"]]
    other = [WORDS.index(w) for w in ["a", "dog", "was", "bad"]]
    assert ids[:10] == [*line, 3, *other, 3]


def test_masks_are_drawn_by_seed_and_pass(load, tmp_path: Path) -> None:
    data = load("fill-mask", written(tmp_path), max_length=16)
    masked = []
    for epoch in (0, 0, 1):
        data.train.set_epoch(epoch)
        masked.append([(x["input_ids"].tolist(), y.tolist()) for x, y in data.train])
    assert masked[0] == masked[1] != masked[2]
    counts = torch.cat([y.flatten() for _, y in data.train])
    assert 0.08 < float((counts != IGNORED).float().mean()) < 0.25
    fixed = [[y.tolist() for _, y in data.val] for _ in range(2)]
    assert fixed[0] == fixed[1]


def test_words_have_their_tags(load, tmp_path: Path) -> None:
    data = load("token-classification", tagged(tmp_path))
    assert data.class_names == ("ADJ", "NOUN", "O")
    inputs, targets = next(iter(data.val))
    for ids, row in zip(inputs["input_ids"].tolist(), targets.tolist(), strict=True):
        for token, tag in zip(ids, row, strict=True):
            word = WORDS[token]
            if word.startswith("["):
                assert tag == IGNORED
            else:
                is_noun = word in ("cat", "dog", "film", "book", "song", "day", "cake", "plan")
                assert (tag == 1) == is_noun


def test_a_decoder_reads_the_answer_one_token_late(load, tmp_path: Path) -> None:
    data = load("text2text-generation", answered(tmp_path))
    inputs, targets = next(iter(data.val))
    read = inputs["decoder_input_ids"]
    assert (read[:, 0] == 0).all()
    kept = targets[:, :-1] != IGNORED
    assert torch.equal(read[:, 1:][kept], targets[:, :-1][kept])


def test_decimal_numbers_are_predicted(load, tmp_path: Path) -> None:
    rows = [(text, good + 0.5) for text, good in sentences(40)]
    write_csv(tmp_path / "t.csv", ("text", "score"), rows)
    data = load("text-classification", tmp_path / "t.csv")
    assert data.class_names == ()
    assert data.task.metric.hub_id == "spearmanr"
    assert {value for _, y in data.val for value in y.tolist()} <= {0.5, 1.5}


def test_two_texts_belong_together(load, tmp_path: Path) -> None:
    rows = [(text, "the plan is fine", good) for text, good in sentences(40)]
    write_csv(tmp_path / "t.csv", ("one", "two", "label"), rows)
    data = load("text-classification", tmp_path / "t.csv", input_key="one,two", max_length=32)
    inputs, _ = next(iter(data.val))
    assert (inputs["input_ids"] == 3).sum(1).tolist() == [2] * len(inputs["input_ids"])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file(load, tmp_path: Path, suffix: str) -> None:
    rows = sentences(40)
    path = tmp_path / f"t.{suffix}"
    named = [{"text": text, "label": label} for text, label in rows]
    if suffix == "parquet":
        from datasets import Dataset

        Dataset.from_list(named).to_parquet(str(path))
    elif suffix == "jsonl":
        write_lines(path, named)
    else:
        mark = "\t" if suffix == "tsv" else ","
        path.write_text("\n".join(["text" + mark + "label", *(f"{a}{mark}{b}" for a, b in rows)]))
    data = load("text-classification", path)
    assert data.train_size + data.val_size == 40
    assert "held out" in data.notes[0]


def test_long_texts_are_cut_and_counted(load, tmp_path: Path) -> None:
    data = load("text-classification", classified(tmp_path, 30), max_length=8)
    assert data.notes[-1].startswith("70 of 70 texts are longer than 8 tokens and are cut")
    assert max(x["input_ids"].shape[1] for x, _ in data.val) == 8


def test_a_missing_column_is_named_with_those_there_are(load, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("words", "class"), sentences(40))
    message, hint = refused(load, "text-classification", tmp_path / "t.csv", input_key="text")
    assert message == f"{tmp_path / 't.csv'} has no column 'text'"
    assert hint == "it has words, class"
    write_csv(tmp_path / "u.csv", ("text", "mood"), sentences(40))
    message, hint = refused(load, "text-classification", tmp_path / "u.csv")
    assert message == f"{tmp_path / 'u.csv'} has no label column"
    assert hint == "name it with --target-key; the columns are text, mood"


def test_labels_that_are_no_classes(load, tmp_path: Path) -> None:
    rows = [{"text": text, "label": [good]} for text, good in sentences(40)]
    write_lines(tmp_path / "t.jsonl", rows)
    message, hint = refused(load, "token-classification", tagged(tmp_path / "x"), target_key="no")
    assert "has no column 'no'" in message
    write_lines(tmp_path / "u.jsonl", [{"text": t, "label": [g]} for t, g in sentences(40)])
    message, hint = refused(load, "text-classification", tmp_path / "u.jsonl")
    assert "does not hold classes" in message
    assert hint == "name a column of integers or texts with --target-key"
    write_lines(
        tmp_path / "v.jsonl",
        [{"text": t, "label": g if n else None} for n, (t, g) in enumerate(sentences(40))],
    )
    message, _ = refused(load, "text-classification", tmp_path / "v.jsonl")
    assert "one of its labels is None" in message


def test_a_label_that_training_does_not_have(load, tmp_path: Path) -> None:
    classified(tmp_path)
    write_csv(tmp_path / "dev.csv", ("text", "label"), [("the cat", -1), ("the dog", 1)])
    message, hint = refused(load, "text-classification", tmp_path)
    assert "has the label -1, which is none of the 2 classes" in message
    assert "choose with --val-split" in hint


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_text(load, tmp_path: Path, text: str) -> None:
    rows = [*sentences(40)[:39], (text, 1)]
    write_lines(tmp_path / "t.jsonl", [{"text": t, "label": g} for t, g in rows])
    message, hint = refused(load, "text-classification", tmp_path / "t.jsonl")
    assert "has an empty 'text'" in message
    assert hint == "take those rows out"


def test_words_and_tags_that_do_not_go_together(load, tmp_path: Path) -> None:
    rows = [{"tokens": ["the", "cat"], "tags": ["O"]}] * 10
    write_lines(tmp_path / "t.jsonl", rows)
    message, _ = refused(load, "token-classification", tmp_path / "t.jsonl")
    assert "has 2 words and 1 tags" in message


def test_too_little_text_for_a_block(load, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("the cat\n")
    message, hint = refused(load, "text-generation", tmp_path)
    assert "has fewer than 16 tokens" in message
    assert "--max-length" in hint


def test_files_that_say_no_split(load, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_csv(tmp_path / f"{name}.csv", ("text", "label"), sentences(8))
    message, hint = refused(load, "text-classification", tmp_path)
    assert "does not say its split" in message
    assert "call the files train" in hint


def test_a_longer_text_than_the_model_takes_is_refused(models) -> None:
    with pytest.raises(RamdaError) as raised:
        load_model(ModelConfig(name=str(models["text-classification"])), max_length=100)
    assert str(raised.value) == "--max-length 100 is more than the model takes: 64 tokens"
    assert raised.value.hint == "give --max-length 64 or less"


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    write_model(tmp_path, "BertForSequenceClassification", vocab_size=20)
    with pytest.raises(RamdaError) as raised:
        load_model(ModelConfig(name=str(tmp_path)))
    assert str(raised.value) == f"the tokenizer of {tmp_path} has {len(WORDS)} tokens, the model 20"
    assert raised.value.hint == "give the tokenizer that the model was trained with"


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A model that tells `positive`, 0, from `negative`, 1."""
    return write_model(
        tmp_path / "named", "BertForSequenceClassification",
        id2label={0: "positive", 1: "negative"}, label2id={"positive": 0, "negative": 1},
    )  # fmt: skip


def classes(model: Path, data: Path, **settings: Any) -> tuple[tuple[str, ...], list[int], bool]:
    """Return the classes, the targets of the validation texts, and whether the head is new."""
    loaded = load_model(ModelConfig(name=str(model)), max_length=16)
    bundle = load_data(DataConfig(name=str(data), batch_size=4, **settings), loaded, seed=0)
    fitted = fit_head(loaded, bundle, seed=0)
    targets = [value for _, y in bundle.val for value in y.tolist()]
    return fitted.labels, targets, fitted.new_head


def test_classes_are_matched_by_name(named: Path, tmp_path: Path) -> None:
    rows = [(text, "Positive" if good else "Negative") for text, good in sentences(40)]
    names, targets, new = classes(named, write_csv(tmp_path / "t.csv", ("text", "label"), rows))
    assert (names, new) == (("positive", "negative"), False)
    stored = dict(rows)
    loaded = load_model(ModelConfig(name=str(named)), max_length=16)
    data = load_data(DataConfig(name=str(tmp_path / "t.csv"), batch_size=4), loaded, seed=0)
    words = tokenizer()
    for inputs, batch in data.val:
        for ids, target in zip(inputs["input_ids"], batch.tolist(), strict=True):
            said = stored[words.decode(ids, skip_special_tokens=True)].lower()
            assert names[target] == said
    assert set(targets) == {0, 1}


def test_numbers_are_those_of_the_model(named: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ("text", "label"), sentences(40))
    names, targets, new = classes(named, path)
    assert (names, set(targets), new) == (("positive", "negative"), {0, 1}, False)


def test_classes_that_the_model_does_not_know_get_a_new_head(named: Path, tmp_path: Path) -> None:
    rows = [(text, "good" if good else "bad") for text, good in sentences(40)]
    names, _, new = classes(named, write_csv(tmp_path / "t.csv", ("text", "label"), rows))
    assert (names, new) == (("bad", "good"), True)


def test_a_class_may_be_absent(named: Path, tmp_path: Path) -> None:
    rows = [(text, "negative") for text, _ in sentences(40)]
    names, targets, new = classes(named, write_csv(tmp_path / "t.csv", ("text", "label"), rows))
    assert (names, set(targets), new) == (("positive", "negative"), {1}, False)


def test_tags_are_held_out_too(load, tmp_path: Path) -> None:
    tagged(tmp_path, 50)
    data = load("token-classification", tmp_path / "train.jsonl")
    assert (data.train_size, data.val_size) == (40, 10)


def test_what_says_none_is_a_text(load, tmp_path: Path) -> None:
    rows = [*sentences(38), ("N/A", 1), ("None", 0)]
    data = load("text-classification", write_csv(tmp_path / "t.csv", ("text", "label"), rows))
    assert data.train_size + data.val_size == 40
    rows = [(text, "None" if good else "some") for text, good in sentences(40)]
    data = load("text-classification", write_csv(tmp_path / "u.csv", ("text", "label"), rows))
    assert data.class_names == ("None", "some")


def test_a_question_and_its_sentence_are_a_pair(load, tmp_path: Path) -> None:
    rows = [("is the plan fine", text, good) for text, good in sentences(40)]
    path = write_csv(tmp_path / "t.csv", ("question", "sentence", "label"), rows)
    inputs, _ = next(iter(load("text-classification", path, max_length=32).val))
    assert (inputs["input_ids"] == 3).sum(1).tolist() == [2] * len(inputs["input_ids"])


def test_a_test_split_may_lack_what_is_not_asked_of_it(load, tmp_path: Path) -> None:
    classified(tmp_path)
    write_csv(tmp_path / "test.csv", ("text",), [(text,) for text, _ in sentences(8)])
    assert load("text-classification", tmp_path).val_size == 40
    message, hint = refused(load, "text-classification", tmp_path, val_split="test")
    assert message == f"{tmp_path}, validation split has no column 'label'"
    assert hint == "it has text"


def test_truth_values_are_classes(load, tmp_path: Path) -> None:
    write_lines(tmp_path / "u.jsonl", [{"text": t, "label": bool(g)} for t, g in sentences(40)])
    assert load("text-classification", tmp_path / "u.jsonl").class_names == ("False", "True")


def test_lists_that_are_texts(load, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ("tokens", "tags"), [("the cat", "O N")] * 9)
    message, hint = refused(load, "token-classification", path)
    assert message == f"the column 'tokens' of {path} does not hold lists"
    assert "JSON lines" in hint


def test_validation_of_a_language_model_bounds_its_logits(load, tmp_path: Path) -> None:
    data = load("text-generation", written(tmp_path / "d"), max_length=16)
    assert len(next(iter(data.val))[0]["input_ids"]) == 8
    wide = load_model(ModelConfig(name=str(write_model(
        tmp_path / "m", "LlamaForCausalLM", vocab_size=4_000_000, hidden_size=8,
        num_hidden_layers=1,
    ))), max_length=16)  # fmt: skip
    bundle = load_data(DataConfig(name=str(tmp_path / "d"), eval_batch_size=8), wide, seed=0)
    assert len(next(iter(bundle.val))[0]["input_ids"]) == 4


def test_images_are_no_texts(load) -> None:
    message, hint = refused(load, "text-generation", Path("digits"))
    assert message == "digits is a set of images, and the model reads texts"
    assert hint == "give a table of texts, or a model that sees images"
