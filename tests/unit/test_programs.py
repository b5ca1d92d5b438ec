"""Programs that tools run: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mesh.agents.programs import Finished, execute
from mesh.runtime.loop import run_on_loop
from mesh.testing import eventually


async def python(code: str, *args: str, input: bytes = b"") -> tuple[int, bytes, bytes]:
    ended = await execute([sys.executable, "-c", code, *args], input)
    return ended.exit_code, ended.stdout, ended.stderr


def alive(pid: int) -> bool:
    """Whether a process is there and is more than what its parent has not asked for yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_program_is_given_its_input_and_its_words_come_back_apart() -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write(sys.argv[1]); sys.exit(7)"
    assert await python(code, "two words", input=b"in") == (7, b"IN", b"two words")


async def test_more_input_and_output_than_a_pipe_holds_passes() -> None:
    many = b"x" * 3_000_000
    assert await execute(["cat"], many) == Finished(0, many, b"")


@pytest.mark.parametrize("input", [b"", b"x" * 3_000_000])
def test_a_program_need_not_read_its_input(input: bytes) -> None:
    async def many() -> set[Finished]:
        return {await execute(["true"], input) for _ in range(20)}

    assert run_on_loop(many()) == {Finished(0, b"", b"")}


async def test_a_signal_that_ended_a_program_is_told_as_a_shell_does() -> None:
    assert await python("import os; os.kill(os.getpid(), 9)") == (128 + signal.SIGKILL, b"", b"")


async def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await execute(["no-such-program"], b"")


async def test_what_a_program_leaves_behind_in_its_group_is_ended() -> None:
    _, stdout, _ = await python(
        "import subprocess; print(subprocess.Popen(['sleep', '600'], stdin=-3, stdout=-3, stderr=-3).pid)"
    )
    await eventually(lambda: not alive(int(stdout)))


async def test_a_cancelled_program_may_clean_up(tmp_path: Path) -> None:
    code = """
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path(sys.argv[2]).touch()
    sys.exit()
signal.signal(signal.SIGTERM, leave)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    running = asyncio.create_task(python(code, str(begun), str(cleaned)))
    await eventually(begun.exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cleaned.exists()


async def test_a_program_leaves_no_open_file_here() -> None:
    await execute(["true"], b"")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        await execute(["true"], b"")
    assert len(list(Path("/dev/fd").iterdir())) <= before


STARTER = """
import asyncio, sys
from mesh.agents.programs import execute
asyncio.run(execute([sys.executable, "-c", sys.argv[1]], b""))
"""


async def test_a_program_dies_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tells = f"import os, time; os.fork(); open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", STARTER, tells)
    family = await eventually(lambda: lines if len(lines := _lines(pids)) == 2 else [])
    starter.kill()
    await starter.wait()
    await eventually(lambda: not any(alive(int(pid)) for pid in family))


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
