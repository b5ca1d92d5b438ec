"""Holds the hard limits on size and prints how sizes are spread: `python tests/sizes.py`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("schemas", "mesh", "services", "tests")
LIMITS = {"file lines": 500, "function lines": 60, "parameters": 8, "nesting": 4}

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Size:
    """One measured thing; `where` is a place that an editor can open."""

    kind: str
    value: int
    where: str


def measure(path: Path, name: str) -> Iterator[Size]:
    """All sizes of one file."""
    source = path.read_text(encoding="utf-8")
    yield Size("file lines", len(source.splitlines()), name)
    for node in ast.walk(ast.parse(source, filename=name)):
        if isinstance(node, Function):
            where = f"{name}:{node.lineno} {node.name}"
            yield Size("function lines", (node.end_lineno or node.lineno) - node.lineno + 1, where)
            yield Size("parameters", count_parameters(node), where)
            yield Size("nesting", max((depth(child) for child in node.body), default=0), where)


def count_parameters(function: Function) -> int:
    """Parameters a caller may give: all but the receiver of a method."""
    args = function.args
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    return len(given) - (given[:1] != [] and given[0].arg in {"self", "cls"})


def depth(node: ast.AST) -> int:
    """How deep blocks are nested; `elif` stays on its level, an inner function is measured by itself."""
    if isinstance(node, SCOPES):
        return 0
    own = isinstance(node, BLOCKS)
    return own + max((depth(child) - is_elif(node, child) for child in ast.iter_child_nodes(node)), default=0)


def is_elif(parent: ast.AST, child: ast.AST) -> bool:
    """Whether `child` is the `elif` of `parent` (one that stands alone in `else:` counts as one)."""
    return isinstance(parent, ast.If) and isinstance(child, ast.If) and parent.orelse == [child]


def percentile(values: list[int], share: float) -> int:
    """The nearest-rank percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def report(label: str, sizes: list[Size]) -> None:
    """Print the spread of each kind, one line each."""
    for kind, limit in LIMITS.items():
        values = sorted(size.value for size in sizes if size.kind == kind)
        if values:
            p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
            print(f"{label:<10} {kind:<15} p50 {p50:>4}  p95 {p95:>4}  max {values[-1]:>4}  limit {limit}")


def main() -> int:
    """Measure everything; 1 if anything is over its limit."""
    too_large: list[Size] = []
    for folder in FOLDERS:
        paths = sorted((ROOT / folder).rglob("*.py"))
        sizes = [size for path in paths for size in measure(path, path.relative_to(ROOT).as_posix())]
        report(folder, sizes)
        too_large += [size for size in sizes if size.value > LIMITS[size.kind]]
    for size in too_large:
        print(f"{size.where}: {size.kind} {size.value}, limit {LIMITS[size.kind]}")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
