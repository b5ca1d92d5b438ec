"""Tasks that were recorded once lead to the same heads and replay through their handlers."""

from __future__ import annotations

import msgspec
import pytest

from mesh.log.head import Entry, fold
from mesh.log.journal import Journal
from mesh.log.merge import Merge
from schemas import envelope
from schemas.envelope import Head
from tests.compat.histories import FILES, HANDLERS, HISTORIES, History, read

NAMES = sorted(HISTORIES)


@pytest.mark.parametrize("name", NAMES)
def test_the_events_lead_to_the_heads_that_the_commits_carry(name: str) -> None:
    head = Head()
    for n, commit in enumerate(read(name)):
        assert commit.n == n
        head = fold(head, n, commit.by, commit.events)
        assert head == commit.head
    assert head.phase == "ended"


@pytest.mark.parametrize("name", NAMES)
async def test_a_writer_of_today_writes_the_same_bytes(name: str) -> None:
    history = await HISTORIES[name]()
    assert [envelope.encode(commit) for commit in history.commits] == (
        FILES / f"{name}.jsonl"
    ).read_bytes().splitlines()


@pytest.mark.parametrize("name", NAMES)
async def test_the_handler_replays_without_performing_a_step_or_emitting_anything(name: str) -> None:
    commits = read(name)
    history = History(commits[:-1])
    before = len(history.commits)
    context = history.context()
    output = await HANDLERS[name](context)
    context.replay.check_complete()
    assert len(history.commits) == before
    final = commits[-1].events[-1].data
    assert getattr(final, "output", None) == output


# After 3 commits the second one has begun a step that must not be repeated: `tests/unit/test_context.py` has that.
@pytest.mark.parametrize(
    ("name", "keep"),
    [("completed", n) for n in range(2, 6)] + [("taken-over-and-cancelled", n) for n in (2, 4, 5, 6, 7)],
)
async def test_from_any_prefix_the_handler_goes_on_to_the_same_steps(name: str, keep: int) -> None:
    commits = read(name)
    whole = Journal(commits)
    history = History(commits[:keep])
    assert history.commits[-1].head.phase == "running"
    await HANDLERS[name](history.context())
    again = Journal(history.commits)
    assert again.results.keys() == whole.results.keys()
    for key, result in whole.results.items():
        assert again.results[key] == msgspec.structs.replace(result, attempt=again.results[key].attempt)


@pytest.mark.parametrize("name", NAMES)
def test_a_tail_tells_each_event_once_and_the_text_of_the_log(name: str) -> None:
    commits = read(name)
    merge = Merge()
    told = [event for commit in commits for event in merge.commit(Entry(100 + commit.n, commit))]
    logged = [event.type for commit in commits for event in commit.events]
    assert [event.type for event in told if event.type != "text"] == logged
    assert "".join(event.data.text for event in told if event.type == "text") == Journal(commits).text
    assert merge.ended
