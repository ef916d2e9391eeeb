"""Words as the tokens of a language model: what white space parts, the most frequent first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from torch import nn
from transformers import PreTrainedTokenizerFast

from ramda_cli.errors import ModelError, first_line

UNKNOWN, END = "<unk>", "<eos>"
_ROWS_AT_ONCE = 10_000


def learn_vocabulary(rows: Dataset, column: str, *, size: int) -> Any:
    """Return a tokenizer of transformers that knows the most frequent words of some lines.

    Number 0, `<unk>`, stands for all other words, number 1, `<eos>`, ends every line; with them it
    knows `size`. Where the text itself says `<unk>` or `<eos>`, these are what is meant.
    """
    counted = Tokenizer(WordLevel({}, unk_token=UNKNOWN))
    counted.pre_tokenizer = WhitespaceSplit()
    own = [UNKNOWN, END]
    trainer = WordLevelTrainer(vocab_size=size, show_progress=False)
    counted.train_from_iterator(lines_of(rows, column), trainer)
    numbers = counted.get_vocab()
    frequent = [word for word in sorted(numbers, key=numbers.__getitem__) if word not in own]
    known = [*own, *frequent[: max(0, size - len(own))]]
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token=UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, words.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=UNKNOWN, eos_token=END)


def lines_of(rows: Dataset, column: str) -> Iterator[list[str]]:
    """Yield a column of texts, many rows at a time; one that is missing is an empty line."""
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        yield [line or "" for line in rows[at : at + _ROWS_AT_ONCE][column]]


def load_vocabulary(folder: Path, model: nn.Module) -> Any:
    """Load what `learn_vocabulary` returned and `save_pretrained` wrote.

    Raises:
        ModelError: it is not there, or has more words than the model.
    """
    file = folder / "tokenizer.json"
    try:
        words = Tokenizer.from_file(str(file))
    # tokenizers raises plain exceptions.
    except Exception as error:
        raise ModelError(
            f"the words of the model cannot be read from {file}: {first_line(error)}",
            hint="it is written beside the model; put it there",
        ) from error
    known = len(model.get_parameter("embedding.weight"))
    if words.get_vocab_size() > known or words.token_to_id(UNKNOWN) is None:
        raise ModelError(
            f"{file} has {words.get_vocab_size():,} words, the model {known:,}",
            hint="put the file there that was written with the model",
        )
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=UNKNOWN, eos_token=END)
