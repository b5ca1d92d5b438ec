"""Taking a rule of the log protocol away makes a case fail; with the rule the same case holds."""

# ruff: noqa: N802 - the rules keep the names they have in the protocol

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from mesh.log.claim import claim
from schemas import command
from services.router import rules
from services.tool_runner import rules as tools
from tests.model import mutations as m
from tests.model import tool_mutations as t
from tests.model.engine import Result, Search
from tests.model.parts import Change, Do, Hang, Poison, Process, Program, Tool, Tools, Wait
from tests.model.processes import Flows, execute
from tests.model.scenario import Faults, Scenario, cancel, steer, submit
from tests.model.world import World

LOOK, PAY = Do("look"), Do("once-pay", once=True)
CRASH, PAUSE, LOST = Faults(crashes=1), Faults(pauses=1), Faults(lost_acks=1)
DEADLINE, GRACE = frozenset({command.DEADLINE}), frozenset({command.CANCEL_GRACE})


def case(*client: Any, program: Program = (LOOK,), routers: int = 1, **more: Any) -> Scenario:
    """A small scenario with one router unless it says otherwise."""
    return Scenario(client=client or (submit(),), program=program, routers=routers, **more)


@functools.cache
def explore(scenario: Scenario) -> Result:
    return Search(World(scenario)).run()


def holds(scenario: Scenario) -> None:
    """The case with every rule."""
    result = explore(replace(scenario, flows=Flows(), fenced=True))
    assert result.violation is None, str(result)


def fails(scenario: Scenario, because: str, **broken: Any) -> None:
    """The case holds, and without one rule it fails for this reason."""
    holds(scenario)
    result = explore(replace(scenario, flows=replace(scenario.flows, **broken)))
    assert result.violation is not None, f"nothing failed in {result.states} states"
    assert because in result.violation, str(result)


WAITS = case(submit(), steer("x"), program=(Wait(1),))
HANGS = case(submit(), cancel(), program=(Hang(),), helping=GRACE)
LATE = case(submit(deadline=True), program=(Hang(),), helping=DEADLINE)
CHANGED = case(program=(Change(),), deploys=True, executors=1)
KILLS = case(submit(parent="P"), program=(Poison(),), max_attempts=2)
CALL = case(program=(Tools((Tool("once-charge", once=True),)),), executors=1)
LOOK_UP = replace(CALL, program=(Tools((Tool("look-up"),)),))
BEGIN = Do("begin", undo=True)
BEGINS = case(submit(), cancel(), program=(BEGIN, Wait(1)), executors=1)
HANGING_CALL = replace(CALL, program=(Tools((Tool("hangs", hangs=True),)),), runners=1)
BESIDE = replace(CALL, program=(Tools((Tool("once-charge", once=True),), beside=LOOK),))


def test_without_L1_an_append_lands_after_the_end() -> None:
    fails(replace(case(submit(), cancel()), fenced=False), "invariant 1: something follows")


def test_without_L3_a_writer_claims_against_itself() -> None:
    fails(replace(case(), faults=LOST), "no fault caused", execute=m.bent(execute, m.ForgetsOwnCommit))


def test_without_L4_a_submit_is_lost() -> None:
    fails(replace(case(), faults=LOST), "no log", submit=m.bent(rules.submit, m.BelievesSilence))


def test_without_L5_the_phase_is_taken_from_the_newest_type_and_the_next_head_is_wrong() -> None:
    scenario = case(submit(), steer("x"), steer("y"), program=(Wait(2),), faults=CRASH)
    fails(scenario, "is not the fold", steer=m.bent(rules.steer, m.JudgesByNewestType))


def test_without_L6_a_signal_is_in_the_log_twice() -> None:
    scenario = case(submit(), steer("x"), steer("x"), program=(Wait(1),))
    fails(scenario, "in the log twice", steer=m.bent(rules.steer, m.KnowsNoIds))


def test_without_L6_a_signal_follows_the_end() -> None:
    fails(case(submit(), steer("x")), "invariant 1", steer=m.bent(rules.steer, m.SeesNoEnd))


def test_without_L7_a_timer_that_reads_from_a_replica_is_acknowledged_for_nothing() -> None:
    fails(HANGS, "stuck", fired=m.bent(rules.fired, m.ReadsFromAReplica))


def test_without_Q1_a_crash_between_ack_and_publish_loses_the_task() -> None:
    fails(replace(case(), faults=CRASH), "stuck", submit=m.bent(rules.submit, m.AcksFirst))


def test_without_Q3_a_purge_leaves_a_task_behind() -> None:
    scenario = case(reconciler=True, faults=Faults(purges=1))
    fails(scenario, "stuck", reconcile=m.does_nothing)


def test_without_A1_another_body_under_the_same_id_is_dropped() -> None:
    fails(case(submit(), submit("b")), "dead letter", submit=m.bent(rules.submit, m.SeesOwnDigest))


def test_without_A3_a_redelivered_submit_is_never_run() -> None:
    fails(replace(case(), faults=CRASH), "stuck", submit=m.bent(rules.submit, m.FollowsUpOnlyItsOwn))


def test_without_R1_a_command_whose_log_is_away_is_removed() -> None:
    scenario = case(faults=Faults(blanks=2))
    fails(scenario, "Q1", claim=m.bent(claim, m.AcksInsteadOfNak))


def test_without_R2_a_spent_command_circles_for_ever() -> None:
    fails(replace(WAITS, faults=CRASH), "stuck", claim=m.bent(claim, m.NaksInsteadOfAck))


def test_without_R3_and_R4_two_copies_of_a_command_fence_each_other() -> None:
    fails(case(submit(), submit()), "the cover changed", claim=m.bent(claim, m.TakesEveryCopy))


def test_without_R4_nobody_takes_over_from_a_dead_worker() -> None:
    fails(replace(case(), faults=CRASH), "Q1", claim=m.bent(claim, m.TakesNoRedelivery))


def test_without_R4_a_late_worker_takes_over_from_one_whose_lease_is_good() -> None:
    fails(replace(case(), faults=PAUSE), "invariant 2", claim=m.bent(claim, m.TakesOverLate))


def test_without_R5_a_task_that_kills_its_workers_never_ends() -> None:
    fails(KILLS, "stuck", execute=m.works_before_it_claims)


def test_without_R6_a_fenced_owner_goes_on_writing() -> None:
    fails(replace(case(), faults=PAUSE), "R6", owner=m.Unfenced)


def test_without_R6_a_fenced_ack_removes_the_command_under_its_owner() -> None:
    fails(replace(case(), faults=PAUSE), "Q1", execute=m.bent(execute, m.AcksInsteadOfDrop))


def test_without_R6_and_asking_a_fenced_nak_causes_a_take_over() -> None:
    asks_nobody = m.bent(claim, m.NeverAsks)
    holds(replace(case(), faults=PAUSE))
    assert explore(replace(case(), faults=PAUSE, flows=Flows(claim=asks_nobody))).violation is None
    naks = m.bent(execute, m.NaksInsteadOfDrop)
    fails(replace(case(), faults=PAUSE), "no fault caused", execute=naks, claim=asks_nobody)


def test_without_R7_a_crash_after_the_suspension_loses_its_timer() -> None:
    fails(replace(CHANGED, faults=CRASH), "stuck", changed=m.suspends_then_publishes)


def test_without_R8_an_open_wake_is_acknowledged() -> None:
    fails(WAITS, "Q1", owner=m.Idle)


def test_without_E1_a_recorded_step_is_made_again() -> None:
    fails(replace(case(), faults=CRASH), "invariant 2", perform=m.performs_without_journal)


def test_without_E2_a_late_worker_repeats_a_recorded_step() -> None:
    fails(replace(case(), faults=PAUSE), "invariant 2", execute=m.bent(execute, m.NeverLooks))


def test_without_E2_a_lapsed_lease_is_trusted_again() -> None:
    scenario = case(program=(LOOK, Do("look again")), faults=PAUSE)
    fails(scenario, "invariant 2", execute=m.bent(execute, m.TrustsAgain))


def test_without_its_start_first_a_step_that_must_not_be_repeated_is() -> None:
    scenario = case(program=(PAY,), faults=CRASH)
    fails(scenario, "invariant 3", perform=m.performs_without_start)


def test_without_S1_a_signal_that_overtakes_its_submit_is_lost() -> None:
    fails(WAITS, "invariant 6", steer=m.bent(rules.steer, m.AcksInsteadOfNak))


def test_without_S2_a_signal_wakes_nobody() -> None:
    fails(WAITS, "stuck", steer=m.bent(rules.steer, m.PublishesNoRun))


def test_without_S3_a_crash_after_the_append_loses_the_wake_up() -> None:
    fails(replace(WAITS, faults=CRASH), "stuck", steer=m.bent(rules.steer, m.FollowsUpOnlyItsOwn))


def test_without_S3_a_crash_after_a_cancel_that_wakes_loses_the_wake_up() -> None:
    scenario = case(submit(), cancel(), program=(Wait(1),), faults=CRASH)
    fails(scenario, "stuck", cancel=m.bent(rules.cancel, m.FollowsUpOnlyItsOwn))


def test_without_reading_on_a_message_that_came_during_a_step_is_slept_over() -> None:
    scenario = case(submit(), steer("x"), program=(LOOK, Wait(1)))
    fails(scenario, "stuck", execute=m.bent(execute, m.ReadsNothingMore))


def test_without_declining_spent_commands_one_that_nobody_may_take_circles_for_ever() -> None:
    scenario = case(submit(deadline=True), steer("x"), program=(Change(),), executors=1, helping=DEADLINE)
    fails(scenario, "stuck", decline=m.gives_back)


def test_without_S4_a_new_version_resumes_nothing() -> None:
    fails(CHANGED, "stuck", fired=m.does_nothing)


def test_without_S4_a_crash_after_the_resumption_loses_its_command() -> None:
    fails(replace(CHANGED, faults=CRASH), "stuck", fired=m.bent(rules.fired, m.FollowsUpOnlyItsOwn))


def test_without_S4_a_timer_that_fires_before_the_suspension_is_lost() -> None:
    fails(CHANGED, "stuck", fired=m.bent(rules.fired, m.MissesResumeWhileRunning))


def test_without_X1_a_task_that_never_started_needs_an_executor_to_be_canceled() -> None:
    scenario = case(submit(), cancel(), able=False, flows=Flows(undeliverable=m.does_nothing))
    result = explore(replace(scenario, flows=replace(scenario.flows, cancel=m.bent(rules.cancel, m.OnlyAsksToCancel))))
    assert explore(scenario).violation is None, str(explore(scenario))
    assert "stuck" in str(result.violation), str(result)


def test_without_X1_a_suspended_handler_that_is_canceled_leaves_undone_what_it_began() -> None:
    fails(BEGINS, "stuck", enter=m.ends_unentered)


def test_without_X1_a_handler_that_is_called_to_be_canceled_makes_further_steps() -> None:
    scenario = replace(BEGINS, program=(BEGIN, Wait(1), LOOK))
    fails(scenario, "X1", enter=m.works_on)


def test_without_X1_a_call_that_a_broadcast_stopped_ends_before_the_request() -> None:
    fails(replace(HANGING_CALL, client=(submit(), cancel())), "X1", sure=t.records_at_once)


def test_a_runner_that_tells_its_result_over_what_others_wrote_hides_a_cancel() -> None:
    scenario = replace(LOOK_UP, client=(submit(), cancel()), inbox=True, runners=1, faults=LOST)
    fails(scenario, "invariant 5", finish=t.tells_over_others)


def test_without_X2_a_cancel_that_overtakes_its_submit_is_lost() -> None:
    fails(case(submit(), cancel()), "invariant 5", cancel=m.cancels_nothing_unknown)


def test_without_X3_a_task_that_hangs_outlives_its_cancel() -> None:
    fails(HANGS, "stuck", cancel=m.bent(rules.cancel, m.PublishesNoTimer))


def test_without_X4_a_late_completion_beats_the_cancel() -> None:
    fails(case(submit(), cancel()), "invariant 5", owner=m.Deaf)


def test_without_N1_a_crash_after_the_end_leaves_who_waits_without_an_answer() -> None:
    fails(case(submit(parent="P"), faults=CRASH), "stuck", claim=m.bent(claim, m.TellsNobody))


def test_without_D1_a_task_that_hangs_has_no_deadline() -> None:
    fails(LATE, "stuck", submit=m.bent(rules.submit, m.PublishesNoTimer))


def test_without_D2_a_deadline_ends_nothing() -> None:
    fails(LATE, "stuck", fired=m.does_nothing)


def test_without_P1_a_task_kills_more_workers_than_it_may() -> None:
    def forgiving(*args: Any) -> Process:
        names, writer, who, *rest = args
        return (yield from claim(names, writer, with_fields(who, max_attempts=99), *rest))

    fails(KILLS, "P1", claim=forgiving)


def test_without_P2_a_crash_after_the_verdict_loses_its_dead_letter() -> None:
    fails(replace(KILLS, faults=CRASH), "stuck", claim=m.bent(claim, m.WritesNoLetter))


def test_without_P3_a_drain_burns_an_attempt() -> None:
    fails(case(faults=Faults(drains=1)), "no fault caused", release=m.leaves_without_commit)


def test_without_P4_a_task_that_no_worker_can_begin_never_ends() -> None:
    fails(case(able=False), "stuck", undeliverable=m.does_nothing)


ANSWERS = Faults(lapses=1)
CLOSED = case(events=True, faults=CRASH)


def test_without_asking_a_live_owner_loses_its_task() -> None:
    fails(replace(case(), faults=ANSWERS), "no fault caused", claim=m.bent(claim, m.NeverAsks))


def test_without_asking_the_outcome_of_a_live_call_is_unknown() -> None:
    fails(replace(CALL, faults=ANSWERS), "unknown outcome, that no fault", begin=m.bent(tools.begin, m.NeverAsks))


@pytest.mark.parametrize(
    ("scenario", "flow"),
    [
        (replace(case(), faults=PAUSE), {"claim": m.bent(claim, m.NeverAsks)}),
        (replace(CALL, faults=PAUSE), {"begin": m.bent(tools.begin, m.NeverAsks)}),
        (case(events=True, faults=Faults(cuts=1)), {"hand_on": m.bent(rules.hand_on, m.NeverAsks)}),
        (replace(CALL, events=True, faults=Faults(cuts=1)), {"hand_on_call": m.bent(rules.hand_on_call, m.NeverAsks)}),
    ],
    ids=["a claim", "a call", "K1 for a task", "K1 for a call"],
)
def test_where_nobody_may_be_asked_the_log_alone_keeps_every_invariant(
    scenario: Scenario, flow: dict[str, Any]
) -> None:
    result = explore(replace(scenario, flows=replace(scenario.flows, **flow)))
    assert result.violation is None, str(result)


def test_without_K1_looking_whose_delivery_it_was_a_live_owner_loses_its_task() -> None:
    fails(CLOSED, "no fault caused", hand_on=m.hands_on_whoever_owns)


def test_without_K1_counting_a_task_that_kills_its_workers_is_handed_on_for_ever() -> None:
    def generous(router: Any, *args: Any) -> Process:
        return (yield from rules.hand_on(with_fields(router, max_cut_offs=9), *args))

    fails(replace(KILLS, events=True), "K1", hand_on=generous)


def test_without_T1_a_copy_of_a_call_makes_the_outcome_of_a_live_one_unknown() -> None:
    scenario = replace(CALL, faults=CRASH)
    fails(scenario, "is given up", begin=m.bent(tools.begin, t.ComparesNoCover))
    fails(scenario, "is given up", begin=m.bent(tools.begin, t.ComparesNothing))


def test_without_T1_a_late_runner_makes_the_outcome_of_a_live_call_unknown() -> None:
    fails(replace(CALL, faults=PAUSE), "is given up", begin=m.bent(tools.begin, t.ComparesNoDelivery))


def test_without_T1_a_call_whose_runner_died_is_made_again_although_it_must_not_be() -> None:
    fails(replace(CALL, faults=CRASH), "invariant 3", begin=m.bent(tools.begin, t.RepeatsEverything))


def test_without_T1_a_call_that_was_published_again_is_made_twice() -> None:
    fails(replace(CALL, faults=CRASH), "invariant", begin=t.believes_every_call_new)
    fails(replace(CALL, faults=CRASH), "invariant", call=t.forgets_what_it_owes)


def test_without_T1_a_runner_whose_start_was_overtaken_makes_a_call_that_has_its_result() -> None:
    scenario = replace(LOOK_UP, faults=Faults(pauses=1, lost_acks=1))
    fails(scenario, "invariant 2", begin=m.bent(tools.begin, t.MindsNobody))


def test_without_E2_a_late_runner_makes_a_call_that_has_its_result() -> None:
    fails(replace(LOOK_UP, faults=PAUSE), "invariant 2", look=t.looks_away)


def test_without_T1_a_cancel_gives_up_a_call_whose_runner_is_at_it() -> None:
    scenario = replace(CALL, client=(submit(), cancel()), faults=Faults(drains=1))
    fails(scenario, "is given up", begin=t.cancels_first)


def test_without_T1_a_call_whose_log_is_away_is_removed() -> None:
    scenario = replace(CALL, faults=Faults(blanks=2))
    fails(scenario, "was acknowledged and has no result", begin=m.bent(tools.begin, m.AcksInsteadOfNak))
    fails(scenario, "was acknowledged and has no result", finish=m.bent(tools.finish, m.AcksInsteadOfNak))


def test_without_T2_a_tool_that_must_not_be_repeated_is() -> None:
    fails(replace(CALL, faults=CRASH), "invariant 3", make=t.performs_before_its_start)


def test_without_T3_a_result_wakes_nobody() -> None:
    fails(CALL, "stuck", finish=m.bent(tools.finish, m.PublishesNoRun))


def test_without_T3_a_crash_after_the_result_loses_the_wake_up() -> None:
    fails(replace(CALL, faults=CRASH), "stuck", begin=m.bent(tools.begin, m.FollowsUpOnlyItsOwn))


def test_without_T3_a_call_has_two_results() -> None:
    fails(replace(LOOK_UP, faults=PAUSE), "in the log twice", finish=m.bent(tools.finish, t.SeesNoResult))


def test_without_T4_a_tool_that_hangs_outlives_its_task() -> None:
    fails(replace(HANGING_CALL, client=(submit(), cancel())), "stuck", effect=t.runs_to_its_end)


def test_without_R7_a_crash_after_the_suspension_loses_the_call() -> None:
    scenario = replace(CALL, faults=CRASH)
    fails(scenario, "stuck", publish=t.publishes_nothing_yet, wait=t.suspends_then_publishes)


def test_without_R7_a_call_is_lost_with_the_owner_that_asked_for_it() -> None:
    fails(replace(CALL, faults=CRASH), "stuck", call=t.calls_once)


def test_without_R6_an_owner_that_is_out_publishes_a_call_that_is_made_twice() -> None:
    scenario = replace(CALL, executors=2, faults=PAUSE)
    fails(scenario, "invariant", publish=t.publishes_when_fenced)


def test_without_X4_a_call_is_begun_after_the_cancel() -> None:
    scenario = replace(CALL, client=(submit(), cancel()))
    fails(scenario, "X4", publish=t.publishes_whatever_was_asked)


def test_without_reading_on_a_result_that_came_during_a_step_is_slept_over() -> None:
    fails(BESIDE, "stuck", read_on=t.reads_nothing_on)
