"""Make small text models with random weights, a tokenizer, and tables for them from plain text.

    python benchmarks/small_text_models.py ../shared/data/wikitext2 -o out/small

Reads `test.txt`, to train on, and `valid.txt`. Writes directories that `ramda prune` takes:

    llama/      a decoder of 10 M parameters, two query heads for each pair of keys and values
    t5/         an encoder-decoder, which restores the capitals of a text
    tagger/     an encoder, which tells for each word of a text in lower case how it is written
    text/       the text itself, `train.txt` and `validation.txt`
    restored/   tables for the second: `source` and `target`
    tagged/     for the third: `tokens` and `tags` (lower, title, upper)

The tokenizer is byte-level BPE, trained on `test.txt`. Weights come by `benchmarks/dense.py`.
"""

import argparse
import json
import re
from pathlib import Path

import torch
import transformers as hf
from tokenizers import ByteLevelBPETokenizer

WORDS = 8_000
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
LONGEST = 40


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    texts = {
        split: (options.text / f"{name}.txt").read_text(encoding="utf-8")
        for split, name in (("train", "test"), ("validation", "valid"))
    }
    tokenizer = _tokenizer(texts["train"])
    torch.manual_seed(0)
    for name, model in _models(len(tokenizer)).items():
        model.save_pretrained(options.output / name)
        tokenizer.save_pretrained(options.output / name)
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name}: {count:,} parameters")
    for split, text in texts.items():
        _write_tables(options.output, split, text)


def _tokenizer(text: str) -> hf.PreTrainedTokenizerFast:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(text.splitlines(), vocab_size=WORDS, special_tokens=SPECIAL)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _models(words: int) -> dict[str, hf.PreTrainedModel]:
    return {
        "llama": hf.LlamaForCausalLM(
            hf.LlamaConfig(
                vocab_size=words, hidden_size=256, intermediate_size=1024, num_hidden_layers=8,
                num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512,
                tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        ),
        "t5": hf.T5ForConditionalGeneration(
            hf.T5Config(
                vocab_size=words, d_model=128, d_kv=32, d_ff=512, num_layers=3, num_heads=4,
                pad_token_id=0, eos_token_id=2, decoder_start_token_id=0,
            )
        ),
        "tagger": hf.BertForTokenClassification(
            hf.BertConfig(
                vocab_size=words, hidden_size=128, intermediate_size=512, num_hidden_layers=4,
                num_attention_heads=4, max_position_embeddings=256, pad_token_id=0, num_labels=3,
            )
        ),
    }  # fmt: skip


def _write_tables(folder: Path, split: str, text: str) -> None:
    for name in ("text", "restored", "tagged"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "text" / f"{split}.txt").write_text(text, encoding="utf-8")
    sentences = [part.split() for line in text.splitlines() for part in line.split(" . ")]
    kept = [words for words in sentences if 5 <= len(words) <= LONGEST]
    with (folder / "restored" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for words in kept:
            target = " ".join(words)
            file.write(json.dumps({"source": target.lower(), "target": target}) + "\n")
    with (folder / "tagged" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for words in kept:
            row = {"tokens": [w.lower() for w in words], "tags": [_written(w) for w in words]}
            file.write(json.dumps(row) + "\n")


def _written(word: str) -> str:
    if re.search("[A-Z]", word) is None:
        return "lower"
    return "upper" if len(word) > 1 and word.upper() == word else "title"


if __name__ == "__main__":
    main()
