"""Measures a mesh as it is used: broker, router, executors and client, each a process of its own.

It prints what this machine does and asserts nothing. One module holds one workload: `broker` (what the broker can do at
most), `tasks` (W1), `turns` (W2 and W2h), `text` (W3), `cancels` (W4), `takeovers` (W5), `reading` (W6), `size` (W7).
"""

from __future__ import annotations

from .options import WORKLOADS, BenchOptions
from .report import Report, Row, render, to_json
from .suite import bench, run

__all__ = ["WORKLOADS", "BenchOptions", "Report", "Row", "bench", "render", "run", "to_json"]
