"""Every interleaving of routers, executors, clients and the broker, with every fault, within bounds.

Set `MESH_MODEL_DEEP` for the larger bounds: minutes instead of seconds, and some gigabytes of memory.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas import command
from services.router.rules import MAX_SIGNAL_WAITS
from tests.model.engine import Result, Search
from tests.model.parts import Change, Do, Hang, Poison, Tool, Tools, Wait
from tests.model.scenario import DEEP, Faults, Scenario, cancel, steer, submit
from tests.model.world import World

MAX_STATES = 5_000_000 if DEEP else 500_000
LOOK, PAY = Do("look"), Do("once-pay", once=True)
WORK = Scenario(client=(submit(),), program=(LOOK, PAY))
ONE_ROUTER = replace(WORK, routers=1)
LOOK_UP, CHARGE = Tool("look-up"), Tool("once-charge", once=True)
ONE_CALL = replace(ONE_ROUTER, program=(Tools((CHARGE,)),), executors=1)
HANGING = Tools((Tool("hangs", hangs=True),))

CRASH, PAUSE, LOST = Faults(crashes=1), Faults(pauses=1), Faults(lost_acks=1)
CRASH_PAUSE, CRASH_LOST = Faults(crashes=1, pauses=1), Faults(crashes=1, lost_acks=1)
PAUSE_LOST, ALL = Faults(pauses=1, lost_acks=1), Faults(crashes=1, pauses=1, lost_acks=1)

Case = tuple[Scenario, tuple[Faults, ...], tuple[Faults, ...]]
CASES: dict[str, Case] = {
    "steps": (WORK, (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST), (ALL, Faults(pauses=2, crashes=1))),
    "steps with a worker that wakes up late twice": (WORK, (Faults(pauses=2),), (Faults(pauses=2, lost_acks=1),)),
    "one submit sent twice": (
        replace(WORK, client=(submit(), submit()), program=(LOOK,)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "another body under the same id": (
        replace(WORK, client=(submit(), submit("b")), program=(LOOK,)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "run commands that were published twice": (
        replace(WORK, client=(submit(), submit()), program=(PAY,)),
        (CRASH_LOST,),
        (Faults(crashes=2, lost_acks=1),),
    ),
    "two signals at once while suspended": (
        replace(ONE_ROUTER, client=(submit(), steer("x"), steer("y")), program=(Wait(2),)),
        (CRASH, PAUSE),
        (CRASH_PAUSE,),
    ),
    "two signals at once on two routers": (
        replace(WORK, client=(submit(), steer("x"), steer("y")), program=(Wait(2),), executors=1),
        (CRASH,),
        (CRASH, PAUSE),
    ),
    "one signal sent twice": (
        replace(WORK, client=(submit(), steer("x"), steer("x")), program=(Wait(1),), executors=1),
        (CRASH, LOST),
        (CRASH_LOST, PAUSE),
    ),
    "a signal to a task that nobody submitted": (
        replace(WORK, client=(steer("x"),), waits=MAX_SIGNAL_WAITS),
        (CRASH,),
        (ALL,),
    ),
    "cancel before, at and after everything": (
        replace(WORK, client=(submit(), cancel()), program=(PAY,)),
        (CRASH, PAUSE),
        (CRASH, PAUSE, LOST),
    ),
    "cancel while one executor takes over from another": (
        replace(ONE_ROUTER, client=(submit(), cancel()), program=(LOOK, PAY)),
        (PAUSE,),
        (CRASH_PAUSE,),
    ),
    "cancel of a task that waits": (
        replace(ONE_ROUTER, client=(submit(), steer("x"), cancel()), program=(Wait(1),)),
        (CRASH, PAUSE),
        (CRASH_PAUSE,),
    ),
    "cancel twice": (
        replace(ONE_ROUTER, client=(submit(), cancel(), cancel("d")), program=(LOOK,), executors=1),
        (CRASH, PAUSE),
        (ALL,),
    ),
    "cancel of a task that never comes": (replace(WORK, client=(cancel(), cancel())), (ALL,), (ALL,)),
    "cancel of a task that hangs": (
        replace(ONE_ROUTER, client=(submit(), cancel()), program=(Hang(),), helping=frozenset({command.CANCEL_GRACE})),
        (CRASH, PAUSE),
        (CRASH_PAUSE, CRASH_LOST),
    ),
    "a deadline that races with the end": (
        replace(ONE_ROUTER, client=(submit(deadline=True),), program=(LOOK,)),
        (CRASH, PAUSE),
        (CRASH_PAUSE, CRASH_LOST),
    ),
    "a deadline of a task that hangs": (
        replace(ONE_ROUTER, client=(submit(deadline=True),), program=(Hang(),), helping=frozenset({command.DEADLINE})),
        (CRASH, PAUSE),
        (CRASH_PAUSE,),
    ),
    "a deadline of a task that no executor takes": (
        replace(WORK, client=(submit(deadline=True),), executors=1, able=False, helping=frozenset({command.DEADLINE})),
        (CRASH,),
        (CRASH_LOST,),
    ),
    "a task that kills its workers": (
        replace(WORK, client=(submit(parent="P"),), program=(Poison(),), max_attempts=2),
        (CRASH_LOST, PAUSE),
        (ALL,),
    ),
    "a task that no worker can begin": (replace(WORK, able=False), (CRASH_LOST,), (Faults(crashes=2),)),
    "drain": (
        replace(WORK, max_attempts=1),
        (Faults(drains=2, lost_acks=1),),
        (Faults(drains=3, lost_acks=1),),
    ),
    "drain of a worker that is late": (WORK, (Faults(drains=1, pauses=1),), (Faults(drains=2, pauses=1, crashes=1),)),
    "resumed by another version": (
        replace(ONE_ROUTER, program=(LOOK, Change(), PAY), deploys=True, executors=1),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST),
    ),
    "resumed by another version, by two routers": (
        replace(WORK, program=(Change(),), deploys=True, executors=1),
        (CRASH,),
        (CRASH_PAUSE,),
    ),
    "resumed by a signal and by another version": (
        replace(ONE_ROUTER, client=(submit(), steer("x")), program=(Change(), Wait(1)), deploys=True, executors=1),
        (CRASH,),
        (CRASH_PAUSE,),
    ),
    "signals that come during steps": (
        replace(ONE_ROUTER, client=(submit(), steer("x"), steer("y")), program=(Wait(1), LOOK, Wait(2))),
        (CRASH, PAUSE),
        (CRASH_PAUSE, CRASH_LOST),
    ),
    "cancel of a task that no version of its app may take": (
        replace(
            ONE_ROUTER,
            client=(submit(), cancel()),
            program=(Change(),),
            executors=1,
            helping=frozenset({command.CANCEL_GRACE, command.RESUME}),
        ),
        (CRASH, LOST),
        (CRASH_LOST,),
    ),
    "cancel of a task that kills its workers": (
        replace(ONE_ROUTER, client=(submit(), cancel()), program=(Poison(),), max_attempts=2),
        (CRASH, PAUSE),
        (CRASH_PAUSE,),
    ),
    "a cancel, a deadline and a signal at once": (
        replace(ONE_ROUTER, client=(submit(deadline=True), cancel(), steer("x")), program=(Wait(1),), executors=1),
        (CRASH,),
        (CRASH_LOST,),
    ),
    "reconciled after a purge": (
        replace(ONE_ROUTER, program=(LOOK,), reconciler=True),
        (Faults(purges=1, crashes=1),),
        (Faults(purges=1, crashes=1, pauses=1),),
    ),
    "reconciled after a purge while it waits": (
        replace(ONE_ROUTER, client=(submit(), steer("x")), program=(Wait(1),), reconciler=True, executors=1),
        (Faults(purges=1),),
        (Faults(purges=1, crashes=1),),
    ),
    "a log that is not there for once": (
        replace(WORK, program=(LOOK,)),
        (Faults(blanks=1, crashes=1), Faults(blanks=2, lost_acks=1)),
        (Faults(blanks=2, crashes=1, lost_acks=1),),
    ),
    "N1 for a task that somebody waits for": (
        replace(ONE_ROUTER, client=(submit(parent="P"), cancel()), program=(LOOK,), executors=1),
        (CRASH, LOST),
        (CRASH_PAUSE,),
    ),
}

CASES |= {
    "a tool call that must not be repeated": (
        ONE_CALL,
        (CRASH_PAUSE, CRASH_LOST, Faults(crashes=2)),
        (CRASH_PAUSE, PAUSE_LOST, Faults(pauses=2, crashes=1)),
    ),
    "a tool call with two executors": (replace(ONE_CALL, executors=2), (CRASH, PAUSE, LOST), (CRASH_PAUSE, PAUSE_LOST)),
    "a tool call that may be repeated": (
        replace(ONE_CALL, program=(Tools((LOOK_UP,)),)),
        (CRASH_PAUSE,),
        (CRASH_LOST, PAUSE_LOST, Faults(pauses=2, crashes=1)),
    ),
    "two tool calls at once": (
        replace(ONE_CALL, program=(Tools((LOOK_UP, CHARGE)),), runners=1),
        (CRASH, LOST),
        (CRASH, LOST, Faults(drains=1)),
    ),
    "two tool calls at once on two runners": (
        replace(ONE_CALL, program=(Tools((LOOK_UP, CHARGE)),)),
        (Faults(),),
        (CRASH, PAUSE, LOST),
    ),
    "a tool call beside a step": (
        replace(ONE_CALL, program=(Tools((CHARGE,), beside=LOOK),)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a tool call beside a step, with two executors": (
        replace(ONE_CALL, program=(Tools((CHARGE,), beside=LOOK),), executors=2),
        (PAUSE,),
        (CRASH, PAUSE, LOST),
    ),
    "a tool that is tried again by policy": (
        replace(ONE_CALL, program=(Tools((Tool("again", tries=2),)),)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a tool that tells how far it has come": (
        replace(ONE_CALL, program=(Tools((Tool("tells", tells=True),)),)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a tool that kills its runners": (
        replace(ONE_CALL, program=(Tools((Tool("kills", kills=True),)),), max_starts=2),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a tool that kills its runner and must not be repeated": (
        replace(ONE_CALL, program=(Tools((Tool("once-kills", once=True, kills=True),)),)),
        (CRASH_PAUSE,),
        (CRASH_LOST, PAUSE_LOST),
    ),
    "cancel while a tool is asked for, runs, or is waited for": (
        replace(ONE_CALL, client=(submit(), cancel()), runners=1),
        (CRASH,),
        (CRASH, LOST),
    ),
    "cancel while a tool hangs": (
        replace(ONE_CALL, client=(submit(), cancel()), program=(HANGING,)),
        (PAUSE,),
        (CRASH, LOST),
    ),
    "a deadline while a tool runs": (
        replace(ONE_CALL, client=(submit(deadline=True),)),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a deadline while a tool hangs": (
        replace(ONE_CALL, client=(submit(deadline=True),), program=(HANGING,), helping=frozenset({command.DEADLINE})),
        (CRASH, PAUSE, LOST),
        (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST),
    ),
    "a message while a tool runs": (
        replace(ONE_CALL, client=(submit(), steer("x")), program=(Tools((LOOK_UP,)), Wait(1)), runners=1),
        (CRASH, LOST),
        (CRASH_LOST,),
    ),
    "drain while a tool runs": (
        replace(ONE_CALL, executors=2, runners=1),
        (Faults(drains=1, crashes=1),),
        (Faults(drains=1, pauses=1, crashes=1),),
    ),
    "drain of a runner while its tool runs": (
        replace(ONE_CALL, program=(Tools((LOOK_UP,)),)),
        (Faults(drains=2),),
        (Faults(drains=1, pauses=1), Faults(drains=1, crashes=1)),
    ),
    "a log that is not there for once while a tool runs": (
        ONE_CALL,
        (Faults(blanks=1, crashes=1),),
        (Faults(blanks=1, lost_acks=1), Faults(blanks=2, crashes=1)),
    ),
    "reconciled after a purge while a tool runs": (
        replace(ONE_CALL, runners=1, reconciler=True),
        (Faults(purges=1),),
        (Faults(purges=1, crashes=1),),
    ),
}

BEGIN = Do("begin", undo=True)
TOLD_CALL = replace(ONE_CALL, inbox=True)
CASES |= {
    "cancel of a task that waits, whose handler has begun something": (
        replace(ONE_ROUTER, client=(submit(), cancel()), program=(BEGIN, Wait(1))),
        (CRASH, PAUSE),
        (CRASH_PAUSE, CRASH_LOST, Faults(drains=1, crashes=1)),
    ),
    "cancel of a task that waits for a tool, whose handler has begun something": (
        replace(ONE_CALL, client=(submit(), cancel()), program=(BEGIN, Tools((LOOK_UP,))), runners=1),
        (Faults(),),
        (CRASH, LOST),
    ),
    "a result that is told": (TOLD_CALL, (CRASH, PAUSE, LOST), (CRASH_PAUSE, CRASH_LOST, PAUSE_LOST)),
    "a result that is told while the task is canceled": (
        replace(TOLD_CALL, client=(submit(), cancel()), program=(Tools((LOOK_UP,)),), runners=1),
        (LOST,),
        (CRASH, PAUSE),
    ),
    "results that are told out of order": (
        replace(TOLD_CALL, program=(Tools((LOOK_UP, CHARGE)),), runners=1),
        (LOST,),
        (CRASH, LOST),
    ),
}

LAPSE, CUT = Faults(lapses=1), Faults(cuts=1)
CASES |= {
    "a delivery that comes again while its owner answers": (
        WORK,
        (Faults(lapses=2), Faults(lapses=1, crashes=1)),
        (Faults(lapses=2, crashes=1), Faults(lapses=1, pauses=1), Faults(lapses=1, lost_acks=1)),
    ),
    "a delivery that comes again while its owner answers and leaves": (
        WORK,
        (Faults(lapses=1, drains=1),),
        (Faults(lapses=1, drains=1, crashes=1),),
    ),
    "a call that comes again while its runner answers": (
        ONE_CALL,
        (Faults(lapses=2),),
        (Faults(lapses=1, crashes=1), Faults(lapses=1, lost_acks=1), Faults(lapses=1, pauses=1)),
    ),
    "a worker whose connection is closed": (
        replace(ONE_ROUTER, program=(LOOK, PAY), events=True),
        (CRASH, CUT),
        (Faults(cuts=1, crashes=1), Faults(cuts=1, pauses=1), Faults(cuts=1, lost_acks=1), Faults(crashes=2)),
    ),
    "a worker whose connection is closed, while the task is canceled": (
        replace(ONE_ROUTER, client=(submit(), cancel()), program=(LOOK,), events=True),
        (CRASH, CUT),
        (Faults(cuts=1, crashes=1),),
    ),
    "a runner whose connection is closed": (
        replace(ONE_CALL, events=True),
        (CUT,),
        (CRASH, Faults(cuts=1, pauses=1)),
    ),
    "a task that kills its workers, whose connections are closed": (
        replace(ONE_ROUTER, client=(submit(parent="P"),), program=(Poison(),), max_attempts=2, events=True),
        (CRASH,),
        (CRASH_LOST,),
    ),
}


def explore(scenario: Scenario) -> Result:
    """One search of this scenario."""
    return Search(World(scenario), MAX_STATES).run()


@pytest.mark.timeout(0 if DEEP else 120)
@pytest.mark.parametrize("name", CASES)
def test_holds_in_every_interleaving(name: str) -> None:
    scenario, small, large = CASES[name]
    for faults in large if DEEP else small:
        result = explore(replace(scenario, faults=faults))
        assert result.violation is None, f"{name} with {faults}\n{result}"
