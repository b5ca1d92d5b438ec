from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from mesh import find
from mesh.cli.notes import Notes
from mesh.cli.places import found_or_embedded
from mesh.server import EmbeddedServer
from mesh.server.binary import find_binary
from tests.cli.conftest import Start
from tests.server.processes import eventually


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedServer:
    return EmbeddedServer(tmp_path / "elsewhere")


async def test_services_wait_for_a_broker_and_say_so(start: Start, broker: EmbeddedServer) -> None:
    await broker.start()
    url = broker.url
    await broker.stop()
    router = start("service", "router", "--server", url)
    executor = start("service", "executor", "--app", "zoo.py", "--server", url)
    for service in (router, executor):
        service.until("no broker; trying again")
    async with broker:
        for service in (router, executor):
            service.until('"event": "serving"')
        run = start("run", "story", "x", "--server", url)
        assert (run.code(), run.out) == (0, "once upon a time\n")
        executor.signal()
        assert executor.code() == 0
        waiting = start("submit", "story", "x", "--server", url)
        assert waiting.code() == 0
        task = waiting.out.strip()
        doctor = start("doctor", "--server", url, "--json")
        assert doctor.code() == 1
        wrong = [one for one in map(json.loads, doctor.out.splitlines()) if one["state"] == "problem"]
        # Its tool runner was never started, and its executor has left.
        assert [(one["what"], one["message"].replace(":", " of").partition(" of")[0]) for one in wrong] == [
            ("pools", "consumer call_zoo"),
            ("app", "zoo"),
        ]
        show = start("show", task, "--server", url)
        assert show.code() == 0
        assert "it waits: no worker serves pool zoo" in show.out
        own = start("run", "facts", "x", "--app", "zoo.py", "--server", url)
        assert own.code() == 0
        assert start("tail", task, "--server", url).code() == 0
        router.signal()
        assert router.code() == 0


async def test_a_service_can_be_stopped_while_it_waits_for_its_broker(start: Start, broker: EmbeddedServer) -> None:
    async with broker:
        url = broker.url
    router = start("service", "router", "--server", url)
    router.until("trying again")
    router.signal()
    assert router.code() == 0


async def test_the_line_about_a_lost_connection_names_its_link(start: Start, broker: EmbeddedServer) -> None:
    async with broker:
        router = start("service", "router", "--server", broker.url)
        router.until('"event": "serving"')
        await broker.kill()
        line = json.loads(router.until(r"\{.*broker unreachable.*\}").group())
        assert line["link"].startswith("router-")
        await broker.start()
        router.until("connected again")
        router.signal()
        assert router.code() == 0


async def test_the_doctor_creates_streams_and_no_other_client_does(start: Start, broker: EmbeddedServer) -> None:
    async with broker:
        submit = start("submit", "story", "x", "--server", broker.url)
        assert submit.code() == 5
        assert "holds no mesh" in submit.err
        for arguments in (("agent", "ls"), ("show", "t")):
            command = start(*arguments, "--server", broker.url)
            assert command.code() == 5
            assert "holds no mesh" in command.err
        before = start("doctor", "--server", broker.url)
        assert before.code() == 1
        assert "mesh doctor --apply" in before.out
        applied = start("doctor", "--server", broker.url, "--apply")
        assert applied.code() == 1
        assert "created stream" in applied.out
        assert "router: none is at work" in applied.out
        assert start("submit", "story", "x", "--server", broker.url).code() == 0


SHOP = """\
from mesh import Context, Mesh

app = Mesh("shop")


@app.tool(idempotent=True)
def price(sku: str) -> float:
    return 1.5 * len(sku)


@app.agent
async def quote(ctx: Context, sku: str) -> float:
    return await ctx.tool(price, sku)
"""


async def test_whoever_watches_a_task_is_told_whom_it_waits_for(
    start: Start, broker: EmbeddedServer, folder: Path
) -> None:
    (folder / "shop.py").write_text(SHOP)
    async with broker:
        for arguments in (("router",), ("executor", "--app", "shop.py")):
            start("service", *arguments, "--server", broker.url).until('"event": "serving"')
        run = start("run", "quote", "otter", "--server", broker.url)
        lacking = "it waits for price: nobody runs the tools of pool shop; start one with `mesh service tool-runner`"
        run.until(lacking)
        task = run.until(r"task (\S+)").group(1)
        start("tail", task, "--server", broker.url).until(lacking)
        show = start("show", task, "--server", broker.url)
        assert show.code() == 0
        assert lacking in show.out
        start("service", "tool-runner", "--app", "shop.py", "--server", broker.url)
        assert (run.code(), run.out) == (0, "7.5\n")


async def test_a_command_says_which_mesh_it_joins_if_nobody_named_one(
    start: Start,
    broker: EmbeddedServer,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with broker:
        assert start("doctor", "--server", broker.url, "--apply").code() == 1
        monkeypatch.setattr(find, "LOCAL_URL", broker.url)
        monkeypatch.delenv(find.VARIABLE, raising=False)
        elsewhere, prefix = broker.store / "nothing", environment["MESH_PREFIX"]
        async with found_or_embedded(broker.url, elsewhere, prefix, Notes()) as place:
            assert (place.url, capsys.readouterr().err) == (broker.url, "")
        async with found_or_embedded(None, elsewhere, prefix, Notes()) as place:
            assert place.url == broker.url
        assert capsys.readouterr().err == f"using the mesh that runs at {broker.url}; --server names another\n"


async def test_a_run_without_a_router_leaves_when_nobody_answers_its_cancel(
    start: Start, broker: EmbeddedServer
) -> None:
    async with broker:
        assert start("doctor", "--server", broker.url, "--apply").code() == 1
        run = start("run", "story", "x", "--server", broker.url)
        run.until("no router has taken the task yet")
        run.signal()
        assert run.code() == 130
        assert "no router has answered" in run.err


async def test_a_server_without_jetstream_is_named_as_such(start: Start, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        find_binary(os.environ),
        "-a",
        "127.0.0.1",
        "-p",
        "-1",
        "--ports_file_dir",
        tmp_path,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        file = tmp_path / f"nats-server_{process.pid}.ports"
        await eventually(lambda: file.is_file() and bool(file.read_text()))
        url = json.loads(file.read_text())["nats"][0]
        for arguments in (("submit", "story", "x"), ("tail", "t"), ("show", "t"), ("cancel", "t"), ("agent", "ls")):
            command = start(*arguments, "--server", url)
            assert command.code() == 5
            assert "has no JetStream\nhint: start it with -js" in command.err
        router = start("service", "router", "--server", url)
        router.until("no JetStream; trying again")
        router.signal()
        assert router.code() == 0
    finally:
        process.terminate()
        await process.wait()


async def test_two_apps_with_one_agent_name_are_refused_with_both_names(
    start: Start, broker: EmbeddedServer, folder: Path
) -> None:
    (folder / "twin.py").write_text((folder / "zoo.py").read_text().replace('"zoo"', '"twin"'))
    async with broker:
        executor = start("service", "executor", "--app", "zoo.py", "--server", broker.url)
        executor.until('"event": "serving"')
        twin = start("service", "executor", "--app", "twin.py", "--server", broker.url)
        assert twin.code() == 2
        assert "of app 'twin' is registered by app 'zoo' already" in twin.err
        refused = start("agent", "rm", "zoo", "--server", broker.url)
        assert refused.code() == 2
        assert "app 'zoo' is served by executor-" in refused.err
        executor.signal()
        assert executor.code() == 0
        forgotten = start("agent", "rm", "zoo", "--server", broker.url)
        assert forgotten.code() == 0
        twin = start("service", "executor", "--app", "twin.py", "--server", broker.url)
        twin.until('"event": "serving"')
