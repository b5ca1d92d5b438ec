"""What a tool says of its progress, on its way into the log of the task."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from mesh.errors import MeshError
from mesh.log.driver import Driver
from mesh.log.head import View
from mesh.worker.turns import Turns
from schemas.step import StepProgress
from services.tool_runner import rules
from services.tool_runner.rules import Runner

EVERY_S: Final = 0.5
log = structlog.get_logger("mesh.tools")


class Progress:
    """Appends the newest progress of one attempt, at most every half second, as well as can be.

    `view` moves with it, so that the append of the result need not find out what this one wrote.
    """

    def __init__(self, runner: Runner, driver: Driver, turns: Turns, step: str, view: View) -> None:
        self.view = view
        self._runner = runner
        self._driver = driver
        self._turns = turns
        self._step = step
        self._newest: StepProgress | None = None
        self._telling: asyncio.Task[None] | None = None
        self._over = False

    def tell(self, message: str, fraction: float | None) -> None:
        """Takes note; what came before and was not told yet is forgotten."""
        if self._over:
            return
        self._newest = StepProgress(step=self._step, message=message, fraction=fraction)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())

    async def aclose(self) -> None:
        """Tells nothing more; an append under way may still be stored, and the next one finds it then."""
        self._over = True
        telling = self._telling
        if telling:
            telling.cancel()
            await asyncio.wait((telling,))
            if not telling.cancelled():
                telling.result()

    async def _tell_all(self) -> None:
        try:
            while self._newest is not None:
                async with self._turns.turn(self.view.task):
                    newest, self._newest = self._newest, None
                    view = await self._driver.drive(rules.tell(self._runner, self.view, newest))
                if view is None:
                    self._over = True
                    return
                self.view = view
                await asyncio.sleep(EVERY_S)
        except MeshError as error:
            log.warning("progress is not told", task=self.view.task, step=self._step, error=str(error))
        finally:
            self._telling = None
