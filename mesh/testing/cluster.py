"""A cluster of real nats-servers on loopback, whose nodes a test may kill, freeze, cut off and start again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from mesh.bus import Bus
from mesh.errors import BusUnavailable
from mesh.server import EmbeddedServer
from mesh.testing.cable import HOST, Cable
from mesh.testing.waiting import eventually

ASK_S: Final = 2.0
WHOLE_S: Final = 30.0
HEARD_NS: Final = 3_000_000_000
PROBE: Final = "cluster_probe"

# Nodes tell one another where others listen, and would then connect past the cables; that address leads nowhere.
_CONFIG: Final = """\
cluster {{
  name: mesh
  listen: "{host}:{port}"
  {advertise}
  routes: [ {routes} ]
}}
"""


class Cluster:
    """Nodes that replicate every stream with `num_replicas` over one; each an `EmbeddedServer`.

    `url` names all of them, as services and clients take it. Two of three must live for the cluster to write. A start
    takes some seconds, until the nodes have agreed on a leader. `with_cables` joins them so that `cut_off` works, and
    ties the cluster to the event loop that started it.

        async with Cluster(tmp_path) as cluster:
            leader = await cluster.leader_of("MESH_TASKS")
            await leader.kill()
    """

    def __init__(self, folder: Path, *, nodes: int = 3, durability: str = "cluster", with_cables: bool = False) -> None:
        listens = free_ports(nodes + (nodes * nodes if with_cables else 0))
        ports, spare = listens[:nodes], iter(listens[nodes:])
        self._cables = {
            (here, there): Cable(next(spare), ports[there])
            for here in range(nodes if with_cables else 0)
            for there in range(nodes)
            if here != there
        }
        self.nodes = [
            EmbeddedServer(
                folder / f"n{number}",
                server_name=f"n{number}",
                durability=durability,
                config_extra=self._config(number, ports),
            )
            for number in range(nodes)
        ]
        self._frozen: set[EmbeddedServer] = set()
        self._cut: set[EmbeddedServer] = set()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """All nodes, joined by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def system_url(self) -> str:
        """The same for a user of the system account."""
        return ",".join(node.system_url for node in self.nodes)

    async def start(self) -> None:
        """Returns when the nodes can replicate a stream; nothing to do for those that run."""
        try:
            async with asyncio.TaskGroup() as group:
                for node in self.nodes:
                    group.create_task(node.start())
            await eventually(self._replicates, WHOLE_S, forgive=BusUnavailable)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends every node, frozen ones too."""
        for node in tuple(self._frozen):
            self.thaw(node)
        await asyncio.gather(*(node.stop() for node in self.nodes))

    async def __aenter__(self) -> Self:
        for cable in self._cables.values():
            await self._stack.enter_async_context(cable)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._stack.aclose()

    async def leader_of(self, stream: str) -> EmbeddedServer:
        """The node that leads a stream now; raises LookupError while none does."""
        return self._named((await self._placement(stream)).get("leader"))

    async def followers_of(self, stream: str) -> list[EmbeddedServer]:
        """The other nodes that hold a stream."""
        return [self._named(peer["name"]) for peer in (await self._placement(stream)).get("replicas") or ()]

    async def in_step(self, stream: str) -> bool:
        """Whether a stream has a leader and every replica of it is up to date."""
        placement = await self._placement(stream)
        replicas = placement.get("replicas") or ()
        return bool(placement.get("leader")) and all(one["current"] and one["active"] < HEARD_NS for one in replicas)

    def freeze(self, node: EmbeddedServer) -> None:
        """SIGSTOP: its connections stay open and nothing answers on them."""
        self._signal(node, signal.SIGSTOP)
        self._frozen.add(node)

    def thaw(self, node: EmbeddedServer) -> None:
        """SIGCONT."""
        self._signal(node, signal.SIGCONT)
        self._frozen.discard(node)

    def cut_off(self, node: EmbeddedServer) -> None:
        """Nothing passes between this node and the others; its clients still reach it."""
        for cable in self._cables_of(node):
            cable.cut()
        self._cut.add(node)

    def reconnect(self, node: EmbeddedServer) -> None:
        """It belongs to the cluster again."""
        for cable in self._cables_of(node):
            cable.mend()
        self._cut.discard(node)

    def _config(self, number: int, ports: list[int]) -> str:
        routes = [cable.port for (here, _), cable in self._cables.items() if here == number] or ports
        return _CONFIG.format(
            host=HOST,
            port=ports[number],
            advertise=f'advertise: "{HOST}:1"' if self._cables else "",
            routes=", ".join(f'"nats://{HOST}:{port}"' for port in routes),
        )

    def _cables_of(self, node: EmbeddedServer) -> list[Cable]:
        assert self._cables, "Cluster(..., with_cables=True)"
        number = self.nodes.index(node)
        return [cable for ends, cable in self._cables.items() if number in ends]

    def _named(self, name: str | None) -> EmbeddedServer:
        for number, node in enumerate(self.nodes):
            if name == f"n{number}":
                return node
        raise LookupError(f"no node is called {name!r}")

    def _signal(self, node: EmbeddedServer, number: signal.Signals) -> None:
        if node.pid is not None:
            os.kill(node.pid, number)

    async def _replicates(self) -> bool:
        """Whether a stream can be placed on all nodes: they may not all have met."""
        config = {"name": PROBE, "subjects": [PROBE], "storage": "memory", "num_replicas": len(self.nodes)}
        made = await self._ask(f"STREAM.CREATE.{PROBE}", config)
        await self._ask(f"STREAM.DELETE.{PROBE}")
        return "error" not in made

    async def _placement(self, stream: str) -> dict[str, Any]:
        return (await self._ask(f"STREAM.INFO.{stream}")).get("cluster") or {}

    async def _ask(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        absent = self._frozen | self._cut
        whole = ",".join(node.url for node in self.nodes if node.pid is not None and node not in absent)
        bus = await Bus.connect(whole, name="cluster")
        try:
            data = msgspec.json.encode(body) if body else b""
            answer = await bus.request(f"$JS.API.{call}", data, timeout_s=ASK_S)
        finally:
            await bus.aclose()
        return msgspec.json.decode(answer.data, type=dict[str, Any])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
