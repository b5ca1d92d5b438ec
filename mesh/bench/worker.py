"""One service as a process of the benchmark: `python -m mesh.bench.worker`.

The first line of its standard input is an `Order` as JSON. It writes a line when it takes work and ends when its
standard input does, so it cannot outlive who started it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import msgspec
import structlog

from mesh.bench.app import app
from mesh.bench.order import Order
from mesh.durability import PROFILES
from mesh.runtime import spare_what_stays
from mesh.runtime.loop import run_on_loop
from mesh.service import ServiceConfig, find_service
from mesh.settings import Settings

_STDIN = 0


async def serve(order: Order) -> None:
    """Serves until standard input ends."""
    settings = Settings(profile=PROFILES[order.durability].name)
    service = find_service(order.service)(
        ServiceConfig(
            url=order.url, app=app, settings=settings, system_url=order.system_url, database=order.database
        )
    )  # fmt: skip

    def read() -> None:
        if not os.read(_STDIN, 1024):
            loop.remove_reader(_STDIN)
            service.stop()

    loop = asyncio.get_running_loop()
    loop.add_reader(_STDIN, read)
    await service.serve(_say_ready)


def main() -> None:
    """The entry point."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    run_on_loop(serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)))


def _say_ready() -> None:
    spare_what_stays()
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
