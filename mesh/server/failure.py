"""What to say when the server ends before it is ready."""

from __future__ import annotations

from pathlib import Path

from mesh.errors import PortTaken, ServerError

MAX_LINES = 5
MAX_BYTES = 64 * 1024
TROUBLE = ("[ERR]", "[FTL]", "panic:")
PORT_TAKEN = "address already in use"


def ended_early(code: int, lines: list[str], log_path: Path, host: str, port: int | None) -> ServerError:
    """The error for a server that ended with `code` after it wrote `lines`."""
    if port is not None and any(PORT_TAKEN in line for line in lines):
        return PortTaken(host, port)
    return with_log(f"the nats-server ended with code {code} before it was ready", lines, log_path)


def with_log(message: str, lines: list[str], log_path: Path) -> ServerError:
    """`message` with what the server itself said, and where the rest of its log is."""
    said = "".join(f"\n  {line}" for line in telling(lines))
    return ServerError(f"{message}{':' if said else ''}{said}", hint=f"see {log_path}, and nats.conf beside it")


def telling(lines: list[str]) -> list[str]:
    """The lines that tell of trouble, or the last ones where none does."""
    trouble = [line for line in lines if line.startswith("nats-server:") or any(mark in line for mark in TROUBLE)]
    return (trouble or lines)[-MAX_LINES:]


def read_log(path: Path, start: int) -> list[str]:
    """The lines that were written to the log after byte `start`, at most the last 64 KiB of them."""
    with path.open("rb") as log:
        end = log.seek(0, 2)
        log.seek(max(start, end - MAX_BYTES))
        text = log.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()]
