import numpy as np
import pytest

from ramda_cli.structure.solve import FIXED, shrinking_dim


@pytest.mark.parametrize(
    ("classes", "dim"),
    [
        ([[0, 1, 2]], 1),
        ([[0], [1]], 0),
        ([[0, 1], [0, 1]], 1),
        ([[0, 0], [FIXED, FIXED]], 0),
        ([[0, 1], [1, 0]], None),
        ([[0, FIXED], [FIXED, FIXED]], None),
    ],
)
def test_removal_acts_along_the_dimension_that_classes_depend_on(
    classes: list[list[int]], dim: int | None
) -> None:
    assert shrinking_dim(np.array(classes)) == dim
