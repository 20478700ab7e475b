"""A Ray cluster whose nodes are hosts, on this one machine: each has a network address, processes, /dev/shm and /tmp that the others do not have.

A host is a set of Linux namespaces, tied to the others by a link each to a switch, a bridge in a network namespace of its own. None has a name
outside, and all of one end with its first process, which ends with the tests: so nothing is left of them, however the tests end, and nothing of
this machine's own network changes.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray_nodes import Nodes
from whole_runs import ROOT

PATIENCE_S = 20
TMP = Path("/tmp")
# The checkout, the interpreter and the tests' folder stay where they are, as on a file system that hosts share.
_HOST = """
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /mnt
chmod 1777 /mnt
for shared in "$@"; do
    mkdir -p "/mnt${shared#/tmp}"
    mount --bind "$shared" "/mnt${shared#/tmp}"
done
mount --move /mnt /tmp
"""
_STAY = "cd {root}; echo ready; sleep infinity & wait"  # a shell, since somebody must reap the host's orphans


class Refused(Exception):
    """The kernel, or who runs the tests, does not allow hosts."""


@dataclass
class _Namespaces:
    """A network at least."""

    keeper: subprocess.Popen[str]
    first: psutil.Process

    @classmethod
    def made(cls, *kinds: str, script: str = "", shared: Iterable[Path] = ()) -> _Namespaces:
        """By a process that ends them when it ends, and that ends when the thread ends that calls this. Raises Refused."""
        unshare = ["unshare", "--net", *kinds, "--pid", "--fork", "--kill-child"]
        shell = ["sh", "-ec", script + _STAY.format(root=ROOT), "host", *map(str, shared)]
        try:
            keeper = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *unshare, *shell],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except FileNotFoundError as error:
            raise Refused(f"there is no {error.filename}") from None
        assert keeper.stdout is not None
        said = keeper.stdout.readline()
        if said != "ready\n":
            keeper.kill()
            raise Refused((said + keeper.communicate()[0]).strip())
        return cls(keeper, psutil.Process(keeper.pid).children()[0])

    def inside(self, *kinds: str) -> list[str]:
        return ["nsenter", f"--target={self.first.pid}", *kinds]

    def ip(self, *words: str) -> None:
        """The command of that name. Raises Refused."""
        done = subprocess.run([*self.inside("--net"), "ip", *words], capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode:
            raise Refused(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def end(self) -> None:
        """And every process in them, at once."""
        self.keeper.kill()
        self.keeper.communicate()
        psutil.wait_procs([self.first], timeout=PATIENCE_S)


class Network:
    """Hosts on one switch; names are of 15 characters at most, as names of links are."""

    def __init__(self, *shared: Path) -> None:
        """Hosts share these folders. Raises Refused."""
        kept = [ROOT, Path(sys.prefix), Path(sys.base_prefix), *shared]
        self._shared = [folder for folder in kept if folder.is_relative_to(TMP)]
        self._addresses = (f"10.0.0.{number}" for number in itertools.count(1))
        self._hosts: dict[str, _Namespaces] = {}
        self._ips: dict[str, str] = {}
        self._switch = _Namespaces.made()
        try:
            self._switch.ip("link", "add", "switch", "type", "bridge")
            self._switch.ip("link", "set", "switch", "up")
        except BaseException:
            self.close()
            raise

    def add(self, name: str) -> None:
        """A host of that name, unless it is there; it ends when the calling thread does. Raises Refused."""
        if name in self._hosts:
            return
        host = _Namespaces.made("--ipc", "--mount", "--mount-proc", script=_HOST, shared=self._shared)
        self._hosts[name], self._ips[name] = host, next(self._addresses)
        self._switch.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(host.first.pid))
        self._switch.ip("link", "set", name, "master", "switch", "up")
        host.ip("address", "add", f"{self._ips[name]}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            host.ip("link", "set", link, "up")
        host.ip("route", "add", "default", "dev", "eth0")  # many ask by it which address is theirs

    def ip(self, name: str) -> str:
        return self._ips[name]

    def inside(self, name: str) -> list[str]:
        """What comes before a command that is to run on the host."""
        return self._hosts[name].inside("--net", "--ipc", "--mount", "--pid", "--wd")

    def cut(self, name: str) -> None:
        """What is sent to the host or by it is lost, and nobody is told; its processes live."""
        self._switch.ip("link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Undo the cut."""
        self._switch.ip("link", "set", name, "up")

    def end(self, name: str) -> None:
        """A host, as when its power goes."""
        self._hosts.pop(name).end()

    def close(self) -> None:
        for name in list(self._hosts):
            self.end(name)
        self._switch.end()


class Hosts(Nodes):
    """Nodes that are hosts of a network, which is ended by whoever made it."""

    def __init__(self, network: Network, folder: Path, *head: str, **environment: str) -> None:
        self.network = network
        network.add("head")
        super().__init__(folder, *head, port=None, **environment)

    def join(self, name: str, role: str, cpus: int, gpus: int = 0) -> None:
        self.network.add(name)
        super().join(name, role, cpus, gpus)

    def ip(self, name: str) -> str:
        return self.network.ip(name)

    def inside(self, name: str) -> list[str]:
        return self.network.inside(name)

    def _temporary(self) -> Path:
        return TMP / "ray"

    def command(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """On that host."""
        return subprocess.run([*self.inside(name), *words], capture_output=True, text=True, timeout=120)

    def ended(self, name: str) -> bool:
        """Whether Ray has ended on the host by itself."""
        return self._processes[name].poll() is not None

    def kill(self, name: str) -> None:
        with suppress(KeyError):
            self.network.end(name)
        super().kill(name)
