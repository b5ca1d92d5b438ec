"""Writes docs/subjects.md from the definitions: `python tests/docs/subjects_page.py`."""

from __future__ import annotations

from pathlib import Path

from mesh.settings import Settings
from mesh.streams import Stream, call_consumer, definitions, run_consumer
from mesh.subjects import Subjects

PAGE = Path(__file__).parents[2] / "docs" / "subjects.md"
HEADER = """# Subjects, streams, consumers

Generated from `mesh/streams.py` by `python tests/docs/subjects_page.py`; do not edit. All names derive from one prefix
token (`MESH_PREFIX`, default `mesh`). The root of a task id is what stands before its first `--`.

## What goes where

| what | subject | body | kept in |
| --- | --- | --- | --- |
| submit a task | `mesh.submit.<agent>` | text, or `{"input": …}` | `MESH_WORK` |
| run a task | `mesh.run.<pool>` | `Run` | `MESH_RUN` |
| make a tool call | `mesh.call.<pool>` | `Call` | `MESH_RUN` |
| request to a task | `mesh.signal.<root>.<task>` | `TaskSignal` (`cancel`) | `MESH_WORK` |
| a task ended | `mesh.ended.<root>.<task>` | `Ended` | `MESH_WORK` |
| timer | `mesh.later.<kind>-<task>`, fires to `mesh.fired.<root>.<task>` | `Fired` | `MESH_WORK` |
| task log | `mesh.task.<root>.<task>` | `Commit` | `MESH_TASKS` |
| logs that were purged | `mesh.purged` | `LogsPurged` | `MESH_TASKS` |
| live view of the log | `mesh.log.<root>.<task>` | `Commit` | republished by the broker, not kept |
| text on its way | `mesh.delta.<root>.<task>` | `Delta` | `MESH_DELTAS` |
| stop now | `mesh.cancel.<root>` | `Broadcast` | not kept |
| a tool call has ended | the `reply` of the call, an inbox | `Told` | not kept |
| ask or tell one worker | `mesh.worker.<name>` | `WorkerRequest` (`holds`, `drain`), `WorkerAnswer` | not kept |
| dead letter | `mesh.dead.<kind>.<task>` | `DeadLetter` | `MESH_DEAD` |
| question to the session store | `mesh.session.<question>` | `GetRequest` … | not kept |
| archive of a log | `$O.mesh_archives.>` | as an artifact | object bucket `mesh_archives` |
| artifact, large value | `$O.mesh_artifacts.>` | chunks, and what they make up | object bucket `mesh_artifacts` |

A value over 256 KiB is not sent within a message: its JSON is an object named by its digest (`sha256-…`), and a field
`…_ref` with digest, size and media type stands in its place. A caller may do the same: `{"input_ref": …}`. The bucket
is a NATS object store: `nats object get mesh_artifacts sha256-…` reads it.

Each body as JSON Schema: [schema.json](schema.json), or `mesh schema`. Everything as AsyncAPI 3, streams and consumers
included: [asyncapi.json](asyncapi.json), or `mesh schema --asyncapi`.

Never subscribe to `mesh.task.>`: a core subscriber there also receives appends that the stream refused. Tails listen to
`mesh.log.>`. `mesh.context.>` is reserved.
"""


def render() -> str:
    """The whole page."""
    names = Subjects()
    d = definitions(names)
    lines = [
        HEADER,
        "## Streams",
        "",
        "| stream | subjects | retention | storage | also |",
        "| --- | --- | --- | --- | --- |",
    ]
    for s in d.streams:
        subjects = " ".join(f"`{subject}`" for subject in s.subjects)
        lines.append(f"| `{s.name}` | {subjects} | {s.retention} | {s.storage} | {_also(s)} |")
    lines += ["", "## Consumers", "", "| consumer | stream | filters | ack wait |", "| --- | --- | --- | --- |"]
    for c in (*d.consumers, run_consumer(names, "<pool>"), call_consumer(names, "<pool>")):
        filters = " ".join(f"`{subject}`" for subject in c.filters)
        lines.append(f"| `{c.name}` | `{c.stream}` | {filters} | {c.ack_wait_s:g} s |")
    lines += ["", "## Buckets", "", "| bucket | holds | entries expire |", "| --- | --- | --- |"]
    held = {names.agents: "one `AppRecord` per app", names.workers: "one `WorkerRecord` per process"}
    lines += [f"| `{b.name}` | {held[b.name]} | {f'after {b.ttl_s:g} s' if b.ttl_s else 'never'} |" for b in d.buckets]
    kept = {names.artifacts: "artifacts and large values, by digest", names.archives: "archived logs, by digest"}
    lines += [f"| `{b.name}` | {kept[b.name]} | never |" for b in d.objects]
    lines += [
        "",
        "## Settings",
        "",
        "Every process of one mesh must see the same.",
        "",
        "| variable | default |",
        "| --- | --- |",
    ]
    lines += [f"| `MESH_{name.upper()}` | `{getattr(Settings(), name)}` |" for name in Settings.__struct_fields__]
    return "\n".join(lines) + "\n"


def _also(stream: Stream) -> str:
    words = []
    if stream.republish:
        words.append(f"republishes `{stream.republish[0]}` to `{stream.republish[1]}`")
    if stream.deny_delete:
        words.append("single messages cannot be deleted")
    if stream.atomic:
        words.append("atomic batches")
    if stream.schedules:
        words.append("message schedules")
    if stream.no_ack:
        words.append("no acknowledgements")
    if stream.max_age_s:
        words.append(f"kept {stream.max_age_s:g} s")
    if stream.max_bytes > 0:
        words.append(f"at most {stream.max_bytes // 1024 // 1024} MiB")
    return ", ".join(words)


if __name__ == "__main__":
    PAGE.write_text(render())
