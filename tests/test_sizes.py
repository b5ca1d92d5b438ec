from __future__ import annotations

import ast

import pytest

from tests.sizes import count_parameters, depth


def function(source: str) -> ast.FunctionDef:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 0),
        ("if a: pass\n elif b: pass\n elif c: pass", 1),
        ("if a: pass\n else:\n  for x in y:\n   pass", 2),
        ("with a:\n  try: pass\n  except E:\n   if b: pass", 3),
        ("def inner():\n  if a: pass", 0),
    ],
)
def test_nesting_counts_blocks_but_neither_elif_nor_inner_functions(body: str, expected: int) -> None:
    assert max(depth(node) for node in function(f"def f():\n {body}").body) == expected


def test_the_receiver_of_a_method_is_no_parameter() -> None:
    assert count_parameters(function("def f(self, a, /, b, *c, d, **e): pass")) == 5
