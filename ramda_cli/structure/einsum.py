"""What an equation of einsum says: letters of the dimensions, and which pairs are contracted."""

from collections.abc import Iterator, Sequence


def einsum_names(equation: str, dimensions: Sequence[int]) -> tuple[list[str], str]:
    """Return a letter per dimension, of each operand and of the result.

    Dimensions of an ellipsis have letters of their own, and meet from the last.

    Args:
        equation: with or without `->`.
        dimensions: how many each operand has.
    """
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    spread = [
        count - len(each.replace("...", "")) for each, count in zip(names, dimensions, strict=True)
    ]
    if not arrow:
        letters = inputs.replace("...", "").replace(",", "")
        alone = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        result = "..." * ("..." in inputs) + "".join(alone)
    written = [
        each.replace("...", _ellipsis(count)) for each, count in zip(names, spread, strict=True)
    ]
    return written, result.replace("...", _ellipsis(max(spread)))


def contracted_pairs(names: Sequence[str], result: str) -> Iterator[str]:
    """Yield the letters of each product that sums over something, operand by operand.

    The product has one multiplication for every choice of an index for each of its letters.
    """
    current = set(names[0])
    for number, each in enumerate(names[1:], start=2):
        later = set(result).union(*names[number:])
        summed = (current & set(each)) - later
        left = (current | set(each)) & later
        if summed:
            yield "".join(sorted(summed | left))
        current = left


def _ellipsis(count: int) -> str:
    """Return letters for the dimensions of an ellipsis, which meet from the last."""
    return "".join(chr(0x3B1 + number) for number in reversed(range(count)))
