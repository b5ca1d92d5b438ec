"""Where the apps of the crash tests stand, and the seed of what they do at random."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def app() -> str:
    """The target of the app under test."""
    return f"{HERE / 'app.py'}:app"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random moments; MESH_TEST_SEED repeats those of a run that failed."""
    seed = os.environ.get("MESH_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"{request.node.name}: MESH_TEST_SEED={seed}")
    return random.Random(seed)
