"""The end of a task that somebody owns."""

from __future__ import annotations

import asyncio


async def end(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits until it has ended.

    *Cancellation:* whoever waits is cancelled as usual. Awaiting the task under a `suppress` would take the caller's
    own cancellation for that of the task, and the caller would go on for ever.

    Raises: what the task raised, unless that is its cancellation.
    """
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.result()
