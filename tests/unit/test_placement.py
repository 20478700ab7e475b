"""Who gets which GPU."""

from __future__ import annotations

import pytest

from cluster.placement import Placement, plan
from executor.errors import UserError


@pytest.mark.parametrize(
    "gpus, actors, expected",
    [
        (0, 1, Placement(0, 0)),
        (0, 7, Placement(0, 0)),
        (1, 1, Placement(0.5, 0.5)),
        (2, 1, Placement(1, 1)),
        (8, 7, Placement(1, 1)),
        (8, 3, Placement(1, 1)),
    ],
)
def test_what_fits_is_shared_out(gpus: int, actors: int, expected: Placement) -> None:
    placement = plan(gpus, actors)
    assert placement == expected
    assert placement.learner_gpus + actors * placement.rollout_gpus <= gpus


@pytest.mark.parametrize(
    "gpus, actors, said", [(1, 2, "one GPU holds one engine"), (2, 2, "at most 1 fit"), (4, 4, "at most 3 fit")]
)
def test_what_does_not_fit_is_refused_by_its_key(gpus: int, actors: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        plan(gpus, actors)
    assert f"rollout.actors={actors}" in str(caught.value)
