"""Who gets which GPU, and which nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nodes import ROLE_LABEL, Node
from cluster.placement import Core, Demand, Place, plan
from executor.errors import UserError


def pool(gpus: int) -> list[Node]:
    return [Node("a", None, {"GPU": float(gpus), "CPU": 4.0})]


def labelled(**resources: dict[str, float]) -> list[Node]:
    return [Node(role, role, given) for role, given in resources.items()]


@pytest.mark.parametrize("gpus, actors, each", [(0, 1, 0), (0, 7, 0), (1, 1, 0.5), (2, 1, 1), (8, 7, 1), (8, 3, 1)])
def test_what_fits_is_shared_out(gpus: int, actors: int, each: float) -> None:
    placement = plan(pool(gpus), Demand(actors))
    assert (placement.learner, placement.rollout) == (Place(gpus=each), Place(gpus=each))
    assert placement.learner.gpus + actors * placement.rollout.gpus <= gpus
    assert placement.executor == Place(), "the machine's own scheduler shares two cores better"


@pytest.mark.parametrize(
    "gpus, actors, split, said",
    [
        (1, 2, 1, "one GPU holds one engine"),
        (1, 1, 2, "one GPU holds one engine"),
        (2, 2, 1, "at most 1 fit, one for each"),
        (4, 4, 1, "at most 3 fit, one for each"),
        (8, 4, 2, "at most 3 fit, 2 of one node for each"),
        (4, 1, 4, "at most 0 fit, 4 of one node for each"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(gpus: int, actors: int, split: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        plan(pool(gpus), Demand(actors, tensor_parallel=split))
    assert f"rollout.actors={actors}" in str(caught.value)
    assert (f"engine.tensor_parallel={split}" in str(caught.value)) == (split > 1)


def test_an_engine_is_split_over_the_gpus_of_one_node() -> None:
    engines = [Node("a", "engine", {"GPU": 3.0}), Node("b", "engine", {"GPU": 3.0})]
    nodes = [*labelled(learner={"GPU": 1.0}, executor={"CPU": 4.0}), *engines]
    assert plan(nodes, Demand(2, tensor_parallel=2)).rollout.gpus == 2.0
    with pytest.raises(UserError, match=r"have 6 GPUs, 2 of one node for each"):
        plan(nodes, Demand(3, tensor_parallel=2))


def test_nodes_with_roles_are_used_by_their_roles() -> None:
    nodes = labelled(head={}, learner={"GPU": 1.0}, engine={"GPU": 8.0}, executor={"CPU": 64.0})
    placement = plan(nodes, Demand(8, executor_workers=32, slots=2))
    assert placement.learner.options == {"num_cpus": 0.0, "num_gpus": 1.0, "label_selector": {ROLE_LABEL: "learner"}}
    assert placement.rollout.options == {"num_cpus": 0.0, "num_gpus": 1.0, "label_selector": {ROLE_LABEL: "engine"}}
    assert placement.executor.options == {
        "num_cpus": 2.0,
        "num_gpus": 0.0,
        "label_selector": {ROLE_LABEL: "executor"},
        "scheduling_strategy": "SPREAD",
    }
    assert placement.control.role == "head"


@pytest.mark.parametrize(
    ("nodes", "demand", "said"),
    [
        (labelled(learner={}, engine={}), Demand(), "no node has the label cupel-role=executor"),
        (labelled(engine={}, executor={"CPU": 4}), Demand(), "no node has the label cupel-role=learner"),
        (
            labelled(learner={"GPU": 8}, engine={"GPU": 2}, executor={"CPU": 4}),
            Demand(3),
            "rollout.actors=3: the nodes with cupel-role=engine have 2 GPUs",
        ),
        (
            labelled(learner={}, engine={"CPU": 64}, executor={"CPU": 4}),
            Demand(1, 5),
            "executor.workers=5: 5 CPUs are needed, 1 each, the nodes with cupel-role=executor have 4",
        ),
        ([*pool(0), *pool(0)], Demand(1, 5, 2), "executor.workers=5: 10 CPUs are needed, 2 each, the cluster has 8"),
    ],
)
def test_what_a_cluster_cannot_give_is_refused_unless_it_grows(nodes: list[Node], demand: Demand, said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(nodes, demand)
    plan(nodes, demand, growing=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "head", "learner", "engine", "executor"]), st.integers(0, 8), st.integers(0, 64)
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 16),
    st.integers(1, 64),
    st.integers(1, 8),
)
def test_a_plan_that_is_not_refused_fits(
    given: list[tuple[str | None, int, int]], actors: int, workers: int, split: int
) -> None:
    nodes = [Node(str(i), role, {"GPU": float(gpu), "CPU": float(cpu)}) for i, (role, gpu, cpu) in enumerate(given)]
    try:
        placement = plan(nodes, Demand(actors, workers, tensor_parallel=split))
    except UserError:
        return

    def there(resource: str, place: Place) -> float:
        return sum(n.resources[resource] for n in nodes if place.role in (None, n.role))

    assert placement.rollout.gpus * actors <= there("GPU", placement.rollout)
    assert placement.learner.gpus <= there("GPU", placement.learner)
    assert placement.executor.cpus * workers <= there("CPU", placement.executor)
    if placement.learner.role is None:
        assert placement.learner.gpus + placement.rollout.gpus * actors <= there("GPU", placement.learner)
    for place in (placement.learner, placement.rollout, placement.executor):
        assert there("GPU", place) == 0 or place.gpus > 0 or place is placement.executor, (
            "GPUs are used where there are any"
        )


def test_where_a_lone_node_is_to_grow_executors_ask_for_what_an_autoscaler_sees() -> None:
    assert plan(pool(0), Demand(1, 4, 2), growing=True).executor == Place(cpus=2.0, spread=True)
    assert plan(pool(0), Demand(1, 4, 2)).executor == Place()


def test_learner_and_first_engine_are_reserved_together() -> None:
    assert plan(pool(0), Demand()).core is None
    assert plan(pool(1), Demand()).core == Core(({"GPU": 1.0},), ({},), 0, 0)
    assert plan(pool(8), Demand(3, tensor_parallel=2)).core == Core(({"GPU": 1.0}, {"GPU": 2.0}), ({}, {}), 0, 1)
    nodes = labelled(learner={"GPU": 1.0}, engine={"GPU": 8.0}, executor={"CPU": 64.0})
    labels = ({ROLE_LABEL: "learner"}, {ROLE_LABEL: "engine"})
    assert plan(nodes, Demand(4)).core == Core(({"GPU": 1.0}, {"GPU": 1.0}), labels, 0, 1)
    without = labelled(learner={"GPU": 1.0}, engine={"CPU": 8.0}, executor={"CPU": 64.0})
    assert plan(without, Demand(4)).core is None


def test_learner_and_engine_that_take_turns_are_on_one_gpu_however_many_there_are() -> None:
    placement = plan(pool(8), Demand(sleep_mode=True))
    assert (placement.learner.gpus, placement.rollout.gpus) == (0.5, 0.5)
    assert placement.core == Core(({"GPU": 1.0},), ({},), 0, 0)
    with pytest.raises(UserError, match="are two"):
        plan(labelled(learner={}, engine={}, executor={"CPU": 4}), Demand(sleep_mode=True))
    with pytest.raises(UserError, match=r"rollout\.actors=2: with engine\.sleep_mode=true"):
        plan(pool(8), Demand(2, sleep_mode=True), growing=True)
