"""The reparametrisation of `torch.nn.utils.prune`: a tensor X stored as X_orig and X_mask."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from ramda_cli.errors import ModelError

ORIGINAL = "_orig"
MASK = "_mask"


def masked_names(names: Iterable[str]) -> list[str]:
    """Return the tensors X that are there as X_orig and X_mask, and not as X."""
    known = set(names)
    stems = (name.removesuffix(MASK) for name in sorted(known) if name.endswith(MASK))
    return [stem for stem in stems if stem + ORIGINAL in known and stem not in known]


def apply_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with every X_orig * X_mask in the place of the two, as torch computes it.

    Raises:
        ModelError: a mask has another shape than its tensor.
    """
    applied = dict(state)
    for name in masked_names(state):
        original, mask = applied.pop(name + ORIGINAL), applied.pop(name + MASK)
        if original.shape != mask.shape:
            raise ModelError(
                f"{name}{MASK} is {tuple(mask.shape)}, not {tuple(original.shape)} as its tensor",
                hint="save the state dict again from the pruned model",
            )
        applied[name] = mask.to(original.dtype) * original
    return applied
