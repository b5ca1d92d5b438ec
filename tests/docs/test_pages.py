"""The generated pages are what the code says, and links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas import error
from tests.docs.subjects_page import PAGE, render

ROOT = PAGE.parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_subjects_page_is_what_the_definitions_say() -> None:
    assert PAGE.read_text() == render(), "run: python tests/docs/subjects_page.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_error_code_is_explained_once_and_in_its_order() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert explained == [value for name, value in vars(error).items() if name.isupper() and isinstance(value, str)]
