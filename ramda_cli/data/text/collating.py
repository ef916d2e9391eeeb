"""From rows of token ids to what a model takes and what its task aims at."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ramda_cli.data.seeds import seeded_everywhere
from ramda_cli.tasks import IGNORED
from ramda_cli.tasks.inputs import ExampleInputs

Row = dict[str, Any]


class Collator:
    """Pads texts on the right, and makes the targets of a task.

    Args:
        task: its name.
        tokenizer: of transformers.
        inputs: names of the tensors that the model is given, in order.
        settings: of its call.
        begin: makes what a decoder reads of its targets; None without a decoder.
    """

    def __init__(
        self,
        task: str,
        tokenizer: Any,
        inputs: tuple[str, ...],
        settings: dict[str, Any],
        *,
        begin: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._task = task
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._settings = settings
        self._begin = begin

    def __call__(self, rows: list[Row], *key: int) -> tuple[ExampleInputs, Tensor]:
        """Return a batch; which words are masked depends on `key` alone."""
        ids = [row["input_ids"] for row in rows]
        padding = self._tokenizer.pad_token_id
        made = {
            "input_ids": padded(ids, padding),
            "attention_mask": padded([[1] * len(each) for each in ids], 0),
            "token_type_ids": padded(
                [row.get("token_type_ids") or [0] * len(row["input_ids"]) for row in rows], 0
            ),
        }
        targets = self._targets(rows, made, key)
        return {name: made[name] for name in self._inputs} | self._settings, targets

    def _targets(self, rows: list[Row], made: dict[str, Tensor], key: tuple[int, ...]) -> Tensor:
        match self._task:
            case "text-generation":
                return next_tokens(made["input_ids"], made["attention_mask"])
            case "fill-mask":
                made["input_ids"], targets = self._masked(made["input_ids"], key)
                return targets
            case "text2text-generation":
                targets = padded([row["targets"] for row in rows], IGNORED)
                if self._begin is not None:
                    made["decoder_input_ids"] = self._begin(targets)
                return targets
            case "token-classification":
                return padded([row["targets"] for row in rows], IGNORED)
            case "feature-extraction":
                return torch.zeros(len(rows))  # the loader puts in the dense embeddings
            case _:
                return torch.tensor([row["targets"] for row in rows])

    def _masked(self, ids: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mask 15 % of the tokens as BERT does, by transformers' collator."""
        from transformers import DataCollatorForLanguageModeling

        collate = DataCollatorForLanguageModeling(self._tokenizer, mlm=True, mlm_probability=0.15)
        with seeded_everywhere(*key):
            masked, targets = collate.torch_mask_tokens(ids.clone())
        return masked, targets


def padded(rows: list[list[int]], value: int) -> Tensor:
    """Return int64 rows of one length, `value` after the end of each."""
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def next_tokens(ids: Tensor, mask: Tensor) -> Tensor:
    """Return for each position the token after it, `IGNORED` at the end and in the padding."""
    following = torch.full_like(ids, IGNORED)
    following[:, :-1] = ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
    return following
