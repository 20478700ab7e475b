"""Control groups of version 2, on an imitation of the kernel's files: a kernel has memory and tasks in one version only, so
that a machine can show no more than its own. What the kernel does with the files is not tested here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from executor.sandbox import cgroup

FILES = ("cgroup.procs", "memory.max", "pids.max", "memory.events")


class Kernel:
    """A mounted cgroup2, of whose controllers a group has those that its parent shares out."""

    def __init__(self, mount: Path, patch: pytest.MonkeyPatch) -> None:
        self.mount = mount
        self.make(mount, "memory pids")
        self.shared_in_vain: set[Path] = set()
        mkdir, write = Path.mkdir, cgroup._write

        def make(path: Path) -> None:
            mkdir(path)
            shared = (path.parent / "cgroup.subtree_control").read_text()
            self.make(path, "", [name for name in FILES if name.startswith(("cgroup", *shared.split()))])

        def put(path: Path, text: str) -> None:
            if path.name == "cgroup.subtree_control":
                if path.parent in self.shared_in_vain:
                    raise OSError(16, "it holds processes")
                text = text.replace("+", "")
            write(path, text)

        patch.setattr(Path, "mkdir", make)
        patch.setattr(cgroup, "_write", put)
        patch.setattr(cgroup, "_remove", lambda folder: shutil.rmtree(folder, ignore_errors=True))
        patch.setattr(cgroup, "_MOUNTS", mount.parent / "mounts")
        patch.setattr(cgroup, "_OWN", mount.parent / "own")
        cgroup._MOUNTS.write_text(f"proc /proc proc rw 0 0\ncgroup2 {mount} cgroup2 rw 0 0\n")
        self.own("/")

    @staticmethod
    def make(folder: Path, shared: str, files: list[str] | None = None) -> None:
        os.makedirs(folder, exist_ok=True)
        for name in FILES if files is None else files:
            (folder / name).write_text("")
        (folder / "cgroup.subtree_control").write_text(shared)

    def own(self, path: str) -> None:
        """The group that this process is in."""
        cgroup._OWN.write_text(f"0::{path}\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path / "cgroup", monkeypatch)


def made(folder: Path) -> list[Path]:
    return sorted(folder.glob("cupel-*"))


def test_a_group_bounds_memory_and_tasks_and_is_removed(kernel: Kernel) -> None:
    group = cgroup.open_group("0")
    assert group is not None
    (folder,) = made(kernel.mount)
    assert folder.name == f"cupel-{os.getpid()}-0"
    group.add(4711)
    group.limit(64 << 20)
    assert (folder / "cgroup.procs").read_text() == "4711"
    assert 64 << 20 < int((folder / "memory.max").read_text()) <= 512 << 20
    assert int((folder / "pids.max").read_text()) == 256
    group.close()
    assert not made(kernel.mount)


def test_a_kill_for_memory_is_told_once(kernel: Kernel) -> None:
    group = cgroup.open_group("0")
    assert group is not None
    events = made(kernel.mount)[0] / "memory.events"
    told = []
    for kills in (0, 1, 1, 3):
        events.write_text(f"low 0\nhigh 9\nmax 7\noom {kills}\noom_kill {kills}\noom_group_kill 0\n")
        told.append(group.out_of_memory())
    assert told == [False, True, False, True]


def test_a_group_lies_beside_our_own_or_where_the_controllers_are_to_be_had(kernel: Kernel) -> None:
    kernel.make(kernel.mount / "slice", "")
    kernel.make(kernel.mount / "slice" / "service", "")
    kernel.own("/slice/service")
    assert cgroup.open_group("beside") is not None
    assert [path.name for path in made(kernel.mount / "slice")] == [f"cupel-{os.getpid()}-beside"]
    (kernel.mount / "slice" / "cgroup.subtree_control").write_text("")
    kernel.shared_in_vain |= {kernel.mount / "slice", kernel.mount / "slice" / "service"}
    assert cgroup.open_group("above") is not None
    assert [path.name for path in made(kernel.mount)] == [f"cupel-{os.getpid()}-above"]


def test_without_controllers_there_is_no_group_and_nothing_is_left(kernel: Kernel) -> None:
    (kernel.mount / "cgroup.subtree_control").write_text("")
    kernel.shared_in_vain.add(kernel.mount)
    assert cgroup.open_group("0") is None
    assert not made(kernel.mount)


def test_groups_of_the_dead_are_removed(kernel: Kernel) -> None:
    dead, living = kernel.mount / "cupel-999999999-0", kernel.mount / f"cupel-{os.getppid()}-0"
    for folder in (dead, living):
        kernel.make(folder, "")
    assert cgroup.open_group("0") is not None
    assert not dead.exists() and living.exists()
