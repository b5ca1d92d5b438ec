"""How a process that serves collects garbage."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 50)


def spare_what_stays() -> None:
    """Tells the collector that this process has finished starting.

    NUMBERS
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
