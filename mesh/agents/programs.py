"""Programs that tools run: one dies, with all that it started, when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

KILL_AFTER_S: Final = 2.0

# The program's parent is a shell that leads its process group. Beside it a guard reads a pipe whose other end is held
# by this process alone and never written to: the read ends when this process is no more, however it was killed, and
# the guard takes the group with it. It is there before the program begins, so there is no moment without it.
_GUARDED: Final = """
( trap '' TERM; read -r line </dev/fd/$0; kill -KILL -$$ ) </dev/null >/dev/null 2>&1 &
trap : TERM
exec 3>&2 2>/dev/null
( exec "$@" 2>&3 3>&- )
code=$?
kill -KILL $!
exit $code
"""


class Finished(Struct, frozen=True):
    """A program that ended; what it printed is bytes.

    `exit_code` is 128 and the signal's number if a signal ended it, as in a shell.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


async def execute(command: Sequence[str], input: bytes) -> Finished:
    """Runs a program in a process group of its own and waits for it; nothing of the group is left afterwards.

    Raises: FileNotFoundError.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"there is no program '{command[0]}' that may be executed")
    guarded, held = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _GUARDED, str(guarded), program, *command[1:], stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
            pass_fds=(guarded,),
        )  # fmt: skip
        try:
            stdout, stderr = await _talk(process, input)
        except BaseException:
            await _end(process)
            raise
        _signal_group(process.pid, signal.SIGKILL)
    finally:
        os.close(guarded)
        os.close(held)
    return Finished(process.returncode or 0, stdout, stderr)


async def _talk(process: asyncio.subprocess.Process, input: bytes) -> tuple[bytes, bytes]:
    """As `communicate`, which fails on uvloop when the program has ended before its input was written."""
    stdin, out, err = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert out is not None
    assert err is not None
    _, stdout, stderr = await asyncio.gather(_feed(stdin, input), out.read(), err.read())
    await process.wait()
    return stdout, stderr


async def _feed(stdin: asyncio.StreamWriter, input: bytes) -> None:
    """Programs need not read what they are given."""
    if not stdin.is_closing():
        with suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(input)
            await stdin.drain()
        stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Asks the process group to end, and kills what is left of it: a grandchild may have stayed."""
    _signal_group(process.pid, signal.SIGTERM)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_AFTER_S):
                await process.wait()
    finally:
        _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
