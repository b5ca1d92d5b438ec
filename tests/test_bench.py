"""The benchmark runs, measures what it says, and cleans up. No figure is looked at beyond its sign."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import msgspec
import pytest

from mesh.bench import BenchOptions, Report, Row, bench, render
from mesh.errors import InvalidInput

EXPECTED = """
broker core messages
broker core messages by Bus
broker publishes, one at a time
broker fenced appends, one at a time
broker publishes, N in flight
broker fenced appends, N in flight
broker publishes by Bus, one at a time
broker fenced appends by Bus, one at a time
broker publishes by Bus, N in flight
broker fenced appends by Bus, N in flight
broker flushed publishes, one at a time
broker flushed fenced appends, one at a time
broker flushed publishes, N in flight
broker flushed fenced appends, N in flight
broker flushed publishes by Bus, one at a time
broker flushed fenced appends by Bus, one at a time
broker flushed publishes by Bus, N in flight
broker flushed fenced appends by Bus, N in flight
W1 tasks, 1 executor
W1 tasks, 1 executor: CPU
W1 tasks by result(), 1 executor
W1 tasks by result(), 1 executor: CPU
W1 submit to result, 1 executor, p50
W1 submit to result, 1 executor, p99
W1 tasks, 2 executors
W1 tasks, 2 executors: CPU
W1 flushed tasks, 1 executor
W1 flushed tasks, 1 executor: CPU
W1 flushed tasks by result(), 1 executor
W1 flushed tasks by result(), 1 executor: CPU
W1 flushed submit to result, 1 executor, p50
W1 flushed submit to result, 1 executor, p99
W1 flushed tasks, 2 executors
W1 flushed tasks, 2 executors: CPU
W2 turns, models of 0 ms
W2 turns, models of 0 ms: each step
W2 turns, models of 0 ms: CPU
W2 turns, models of 0 ms: CPU of tool-runner 0
W2 one turn, models of 0 ms, p50
W2 one turn, models of 0 ms, p99
W2 turns, models of 50 ms
W2 turns, models of 50 ms: each step
W2 turns, models of 50 ms: CPU
W2h turns over HTTP
W2h turns over HTTP: each step
W2h turns over HTTP: CPU
W3 N stream of N calls
W3 N stream of N calls: messages
W3 N streams of N calls
W3 N streams of N calls: messages
W3 N stream of N calls one turn apart
W3 N stream of N calls one turn apart: messages
W3 N streams of N calls one turn apart
W3 N streams of N calls one turn apart: messages
W3 emit_text to a tail at 200/s, p50
W3 emit_text to a tail at 200/s, p99
W4 cancel() to the handler, p50
W4 cancel() to the handler, p99
W4 cancel() to the end, p50
W4 cancel() to the end, p99
W5 kill -9 to the same step elsewhere, with the disconnect event, p50
W5 kill -9 to the same step elsewhere, with the disconnect event, max
W5 kill -9 to the same step elsewhere, without the disconnect event, p50
W5 kill -9 to the same step elsewhere, without the disconnect event, max
W6 N events in N commits, by a tail
W6 N events in N commits, by a tail: rate
W6 N events in N commits, by Bus.read
W6 N events in N commits, by Bus.read: rate
W7 tasks
W7 view behind the log
W7 memory of broker
W7 memory of broker: growth
W7 memory of router
W7 memory of router: growth
W7 memory of executor 0
W7 memory of executor 0: growth
W7 memory of session-store
W7 memory of session-store: growth
W7 get by id, p50
W7 get by id, p99
W7 get by the submit's sequence, p50
W7 get by the submit's sequence, p99
W7 list, first page of 50, p50
W7 list, first page of 50, p99
W7 list, page 51 of 100 each, p50
W7 list, page 51 of 100 each, p99
W7 list of an agent and a state, p50
W7 list of an agent and a state, p99
W7 list of an owner, p50
W7 list of an owner, p99
W7 list of failed tasks, none, p50
W7 list of failed tasks, none, p99
W7 list of one owner in a big conversation, p50
W7 list of one owner in a big conversation, p99
W7 history of a big conversation, first page of 50, p50
W7 history of a big conversation, first page of 50, p99
W7 history of a big conversation, page 51 of 100 each, p50
W7 history of a big conversation, page 51 of 100 each, p99
W7 conversations, first page of 50, p50
W7 conversations, first page of 50, p99
W7 rebuild of the view
""".strip().splitlines()
ROOT = Path(__file__).resolve().parent.parent
MESH = Path(sysconfig.get_path("scripts")) / "mesh"


def general(name: str) -> str:
    """A row's name without the counts, which differ between quick and full."""
    if name.startswith("W1"):
        return name
    return re.sub(r"(?<!W)\b\d[\d,]*(?= (stream|calls|events|commits|in flight))", "N", name)


def test_the_quick_benchmark_prints_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store, written = tmp_path / "stores", tmp_path / "bench.json"
    store.mkdir()
    command = [str(MESH), "bench", "--quick", "--tasks", "30", "--json", str(written), "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(written.read_bytes(), type=Report)
    names = [row.name for row in report.rows]
    assert set(EXPECTED) <= {general(name) for name in names}
    assert len(names) == len(set(names))
    assert all(name in done.stdout for name in names)
    # CPU time is counted in hundredths of a second, how many deltas a burst of text needs is not fixed, and memory may
    # shrink.
    exact = [row for row in report.rows if not (": CPU" in row.name or row.name.endswith((": messages", ": growth")))]
    assert [row for row in exact if row.value <= 0] == []
    assert [row for row in report.rows if row.value < 0 and not row.name.endswith(": growth")] == []
    assert "among 30 tasks" in done.stdout
    assert list(store.iterdir()) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see other processes")
async def test_a_stage_ends_every_process_it_started(tmp_path: Path) -> None:
    from mesh.bench import stage

    async with stage.mesh(tmp_path, executors=2, tool_runners=1) as on:
        pids = [pid for pid in on.pids.values() if pid != os.getpid()]
        assert len(pids) == 5
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


async def test_the_provider_answers_a_conversation_by_whether_a_tool_has_spoken() -> None:
    """In pieces and two at once, as sockets bring them."""
    from mesh.bench.app import ANSWER
    from mesh.bench.provider import Provider

    first, second = b'{"messages":[{"role":"user"}]}', b'{"messages":[{"role":"tool"}]}'
    requests = b"".join(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) for body in (first, second)
    )
    async with Provider() as provider:
        reader, writer = await asyncio.open_connection(*provider.address)
        for cut in (requests[:10], requests[10:100], requests[100:]):
            writer.write(cut)
            await writer.drain()
        heads, bodies = [], []
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            length = int(re.findall(rb"content-length: (\d+)", heads[-1])[0])
            bodies.append(await reader.readexactly(length))
        writer.close()
    assert b'"tool_calls"' in bodies[0]
    assert ANSWER.encode() in bodies[1]


async def test_an_unknown_workload_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"w9.*broker, w1"):
        await bench(BenchOptions(only=("w1", "w9")))


def test_the_table_groups_rows_by_their_first_word() -> None:
    report = Report({"cores": "2"}, (Row("W1 tasks", 4000.4, "1/s", "no-op"), Row("W4 cancel", 0.25, "ms")))
    assert render(report) == "cores 2\n\nW1 tasks       4,000 1/s  no-op\n\nW4 cancel       0.25 ms\n"
