"""What a person is told when the server cannot start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mesh.errors import PortTaken, ServerError
from mesh.server import EmbeddedServer
from mesh.server.readiness import check_info, read_port, version
from mesh.server.wire import Info
from tests.server.processes import processes_of


async def refusal(server: EmbeddedServer) -> ServerError:
    """The error of a start that must fail, and leave nothing."""
    try:
        with pytest.raises(ServerError) as caught:
            await server.start()
        assert processes_of(server.store) == set()
    except BaseException:
        await server.stop()
        raise
    assert caught.value.hint
    return caught.value


async def test_a_bad_configuration_fails_with_the_words_of_the_server(store: Path) -> None:
    error = await refusal(EmbeddedServer(store, config_extra="no_such_option: 1"))
    assert "no_such_option" in error.message
    assert str(store / "nats.log") in str(error)


async def test_a_server_that_never_gets_ready_is_given_up(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.server.embedded.START_S", 0.2)
    silent = tmp_path / "silent"
    silent.write_text('#!/bin/sh\necho "still thinking" >&2\ntail -f "$2"\n')  # not `exec`: a child of its own
    silent.chmod(0o755)
    monkeypatch.setenv("MESH_NATS_SERVER", str(silent))
    error = await refusal(EmbeddedServer(store))
    assert "was not ready" in error.message
    assert "still thinking" in error.message


async def test_a_configuration_that_cannot_be_parsed_fails_at_once(store: Path) -> None:
    assert "Parse error on line" in (await refusal(EmbeddedServer(store, config_extra="broken {"))).message


async def test_a_failed_start_frees_the_store(store: Path) -> None:
    await refusal(EmbeddedServer(store, config_extra="broken {"))
    async with EmbeddedServer(store):
        pass


async def test_a_failed_restart_can_be_repeated(server: EmbeddedServer) -> None:
    await server.kill()
    with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        assert isinstance(await refusal(server), PortTaken)
    await server.start()


async def test_a_taken_port_is_named(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = await refusal(EmbeddedServer(store, port=port))
    assert isinstance(error, PortTaken)
    assert error.port == port
    assert str(port) in error.message


async def test_a_given_port_is_used(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    async with EmbeddedServer(store, port=port) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


async def test_a_server_without_jetstream_is_refused(store: Path) -> None:
    error = await refusal(EmbeddedServer(store, config_extra="jetstream: disabled"))
    assert "JetStream" in error.message


async def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await refusal(EmbeddedServer(tmp_path / "file"))
    assert "cannot be used as a store: File exists" in error.message


async def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await refusal(EmbeddedServer(tmp_path / "file" / "store"))
    assert "Not a directory" in error.message


async def test_a_store_in_which_nothing_can_be_made_is_refused() -> None:
    error = await refusal(EmbeddedServer(Path("/dev/null/.mesh")))
    assert "folder on a local disk" in str(error)


async def test_a_store_whose_files_are_in_the_way_is_refused(store: Path) -> None:
    (store / "nats.conf").mkdir(parents=True)
    error = await refusal(EmbeddedServer(store))
    assert "nats.conf" in error.message


async def test_a_data_folder_that_the_server_cannot_use_is_told_in_its_words(store: Path) -> None:
    store.mkdir()
    (store / "jetstream").touch()
    error = await refusal(EmbeddedServer(store))
    assert "[FTL]" in error.message


async def test_an_unknown_durability_is_refused(store: Path) -> None:
    assert "'forever'" in (await refusal(EmbeddedServer(store, durability="forever"))).message


@pytest.mark.parametrize(
    ("text", "parsed"), [("2.15.1", (2, 15)), ("2.12.0-RC.1", (2, 12)), ("v2.9", (2, 9)), ("dev", (0, 0))]
)
def test_a_version_is_read_to_its_minor_number(text: str, parsed: tuple[int, int]) -> None:
    assert version(text) == parsed


def test_an_old_server_is_refused() -> None:
    with pytest.raises(ServerError, match=r"2\.11\.4 is too old"):
        check_info(Info(version="2.11.4", jetstream=True))


@pytest.mark.parametrize("content", ["", '{"nats": ["nats://127.0', "{}", '{"nats": []}'])
def test_an_unfinished_ports_file_is_no_port(tmp_path: Path, content: str) -> None:
    (tmp_path / "nats-server_1.ports").write_text(content)
    assert read_port(tmp_path) is None
