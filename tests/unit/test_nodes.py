"""Nodes, their roles, and waiting for them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nodes import ROLES, SAY_S, Node, lacking, living, read_wanted, wait_for

counts = st.dictionaries(st.sampled_from(ROLES), st.integers(0, 5))


def nodes_of(there: dict[str, int]) -> list[Node]:
    return [Node(f"{role}-{i}", role) for role, count in there.items() for i in range(count)]


def test_only_nodes_that_live_count() -> None:
    records = [
        {"Alive": True, "NodeManagerAddress": "a", "Labels": {"cupel-role": "engine"}, "Resources": {"GPU": 8.0}},
        {"Alive": False, "NodeManagerAddress": "b", "Labels": {"cupel-role": "engine"}, "Resources": {}},
        {"Alive": True, "NodeManagerAddress": "c", "Labels": {}, "Resources": {"CPU": 2.0}},
    ]
    assert living(records) == (Node("a", "engine", {"GPU": 8.0}), Node("c", None, {"CPU": 2.0}))


@given(counts, counts)
def test_what_is_lacking_is_what_would_have_to_join(wanted: dict[str, int], there: dict[str, int]) -> None:
    missing = lacking(wanted, nodes_of(there))
    assert all(count > 0 for count in missing.values())
    assert lacking(wanted, nodes_of(there) + nodes_of(missing)) == {}
    for role in missing:
        fewer = {**missing, role: missing[role] - 1}
        assert lacking(wanted, nodes_of(there) + nodes_of(fewer)) == {role: 1}


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_wait_ends_when_the_nodes_are_there() -> None:
    clock, said = Clock(), []
    looks = itertools.chain([[], nodes_of({"engine": 1})], itertools.repeat(nodes_of({"engine": 2})))
    assert wait_for({"engine": 2}, lambda: next(looks), 600, said.append, clock, clock.sleep) == {}
    assert clock.now < 100 + SAY_S and said == []


def test_the_wait_is_bounded_and_says_what_it_waits_for() -> None:
    clock, said = Clock(), []
    there = nodes_of({"engine": 1, "learner": 1})
    wanted = {"engine": 4, "learner": 1}
    assert wait_for(wanted, lambda: there, 60, said.append, clock, clock.sleep) == {"engine": 3}
    assert 160 <= clock.now < 170
    assert set(said) == {"waiting for nodes: engine 1 of 4"} and 2 <= len(said) <= 60 / SAY_S


def test_what_is_wanted_is_read_from_the_command_line() -> None:
    assert read_wanted(["learner=1", "engine=4"]) == {"learner": 1, "engine": 4}


@pytest.mark.parametrize("argument", ["engines=4", "engine", "engine=", "engine=-1", "engine=many"])
def test_a_role_that_is_none_is_told(argument: str) -> None:
    with pytest.raises(ValueError, match="learner, engine, executor"):
        read_wanted([argument])
