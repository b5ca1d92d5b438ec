"""Rows of figures, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct


class Row(Struct, frozen=True):
    """One figure; `note` says how it was come by."""

    name: str
    value: float
    unit: str
    note: str = ""


class Report(Struct, frozen=True):
    """Everything one run measured, and where."""

    machine: dict[str, str]
    rows: tuple[Row, ...]


def render(report: Report) -> str:
    """The report as a table."""
    names = max((len(row.name) for row in report.rows), default=0)
    units = max((len(row.unit) for row in report.rows), default=0)
    lines = [", ".join(f"{key} {value}" for key, value in report.machine.items())]
    group = ""
    for row in report.rows:
        if row.name.partition(" ")[0] != group:
            group = row.name.partition(" ")[0]
            lines.append("")
        lines.append(f"{row.name:<{names}}  {_number(row.value):>9} {row.unit:<{units}}  {row.note}".rstrip())
    return "\n".join(lines) + "\n"


def to_json(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def latencies(name: str, seconds: Sequence[float], note: str = "") -> list[Row]:
    """The median and the 99th percentile of `seconds`, in milliseconds."""
    return [
        Row(f"{name}, p50", percentile(seconds, 0.50) * 1e3, "ms", note),
        Row(f"{name}, p99", percentile(seconds, 0.99) * 1e3, "ms", f"of {len(seconds)}"),
    ]


def extremes(name: str, seconds: Sequence[float], note: str = "") -> list[Row]:
    """The median and the longest of `seconds`, in milliseconds; for where there are too few for a percentile."""
    return [
        Row(f"{name}, p50", percentile(seconds, 0.50) * 1e3, "ms", note),
        Row(f"{name}, max", max(seconds) * 1e3, "ms", f"of {len(seconds)}"),
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
