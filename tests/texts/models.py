"""Tiny transformers models with tokenizers, and tables for their tasks, in a directory."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

NOUNS = ("cat", "dog", "film", "book", "song", "day", "cake", "plan")
GOOD = ("good", "great", "lovely", "bright", "clever", "warm", "fine", "sweet")
BAD = ("bad", "awful", "dull", "grim", "silly", "cold", "poor", "sour")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, "the", "a", "is", "was", "and", "not", *NOUNS, *GOOD, *BAD)

_ENCODER: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
_DECODER: dict[str, Any] = {
    **_ENCODER, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
_T5: dict[str, Any] = {
    "vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0,
}  # fmt: skip


def tokenizer() -> hf.PreTrainedTokenizerFast:
    """Return a tokenizer of whole words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", eos_token="[SEP]", model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def model(kind: str, **settings: Any) -> hf.PreTrainedModel:
    """Return a model with random weights: a class name of transformers, and its settings."""
    torch.manual_seed(0)
    common = _T5 if kind.startswith("T5") else _DECODER if kind.startswith("Llama") else _ENCODER
    prefix = next(p for p in ("Bert", "Llama", "T5", "GPT2", "ViT") if kind.startswith(p))
    sized = {**common, **settings}
    if prefix == "GPT2":
        sized = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
                 "bos_token_id": 2, "eos_token_id": 3, **settings}  # fmt: skip
    return getattr(hf, kind)(getattr(hf, f"{prefix}Config")(**sized)).eval()


def write_model(folder: Path, kind: str, **settings: Any) -> Path:
    """Write a model and its tokenizer as `save_pretrained` does."""
    model(kind, **settings).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0) -> list[tuple[str, int]]:
    """Return sentences and whether what they say is good, as their adjectives decide."""
    generator = torch.Generator().manual_seed(seed)

    def pick(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    rows = []
    for number in range(count):
        good = number % 2
        first, second = (pick(GOOD if good else BAD) for _ in range(2))
        rows.append((f"the {pick(NOUNS)} is {first} and the {pick(NOUNS)} is {second}", good))
    return rows


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def classified(folder: Path, count: int = 96) -> Path:
    """Write a directory with `train.csv` and `dev.csv`: texts and labels 0 and 1."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "train.csv", ("text", "label"), sentences(count))
    write_csv(folder / "dev.csv", ("text", "label"), sentences(40, seed=1))
    return folder


def tagged(folder: Path, count: int = 96) -> Path:
    """Write JSON lines of words and their tags: nouns, adjectives and the rest."""
    folder.mkdir(parents=True, exist_ok=True)

    def tag(word: str) -> str:
        return "NOUN" if word in NOUNS else "ADJ" if word in (*GOOD, *BAD) else "O"

    for name, rows in (("train", sentences(count)), ("validation", sentences(40, seed=1))):
        words = [text.split() for text, _ in rows]
        write_lines(
            folder / f"{name}.jsonl",
            [{"tokens": each, "tags": [tag(word) for word in each]} for each in words],
        )
    return folder


def written(folder: Path, count: int = 200) -> Path:
    """Write plain text, some lines of it empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("train", 0), ("valid", 1)):
        lines = "\n\n".join(text for text, _ in sentences(count, seed=seed))
        (folder / f"{name}.txt").write_text(lines, encoding="utf-8")
    return folder


def answered(folder: Path, count: int = 96) -> Path:
    """Write pairs of a text and what follows from it: its second half."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("train", 0), ("validation", 1)):
        rows = [tuple(text.split(" and ")) for text, _ in sentences(count, seed=seed)]
        write_csv(folder / f"{name}.csv", ("source", "target"), rows)
    return folder
