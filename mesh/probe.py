"""Whether a broker that answers can hold a mesh, and whether it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.bus import Bus, without_secrets
from mesh.errors import BusUnavailable, NotAMesh
from mesh.subjects import Subjects


async def require_mesh(bus: Bus, names: Subjects) -> None:
    """Returns if the streams of a mesh are there.

    Raises: NotAMesh that says what is missing, BusUnavailable.
    """
    async with jetstream_expected(bus):
        found = await bus.has_mesh(names)
    if not found:
        raise NotAMesh(
            f"the NATS server at {without_secrets(bus.url)} holds no mesh '{names.prefix}'",
            hint="start one there with `mesh service router --server URL`, or a local one with `mesh dev`",
        )


@asynccontextmanager
async def jetstream_expected(bus: Bus) -> AsyncIterator[None]:
    """Asks the broker about JetStream if the block fails for want of an answer.

    Raises: NotAMesh if it has none.
    """
    try:
        yield
    except BusUnavailable as error:
        if bus.connected and not (await bus.server_info())["jetstream"]:
            raise NotAMesh(
                f"the NATS server at {without_secrets(bus.url)} has no JetStream", hint="start it with -js"
            ) from error
        raise
