"""`python -m mesh.bench`: the same as `mesh bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mesh.bench import WORKLOADS, BenchOptions, render, run, to_json
from mesh.errors import MeshError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, measures, prints; answers the exit code."""
    parser = argparse.ArgumentParser(prog="mesh bench", description="Measures a mesh on this machine.")
    parser.add_argument("--only", metavar="W1,W4", default=",".join(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="small counts: a smoke test")
    parser.add_argument("--json", metavar="PATH", help="write JSON there; - is standard output, without the table")
    parser.add_argument("--store", type=Path, metavar="DIR", help="where the temporary stores are made")
    given = parser.parse_args(argv)
    options = BenchOptions(
        only=tuple(given.only.lower().split(",")),
        quick=given.quick,
        store=given.store,
        progress=_say,
    )
    try:
        report = run(options)
    except MeshError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given.json == "-":
        sys.stdout.buffer.write(to_json(report))
        return 0
    if given.json:
        Path(given.json).write_bytes(to_json(report))
    sys.stdout.write(render(report))
    return 0


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
