"""Faults injected into real groups: what users see, on which ranks, and that nothing is left running."""

import re
import signal

from mixtralkit.dist.failure import loss
from mixtralkit.dist.member import Member
from tests.dist.processes import (
    KILLED,
    PATIENCE,
    end_session,
    finish,
    run,
    run_by_hand,
    start,
    start_by_hand,
    torchrun,
    wait_for_start,
)

RANK_1 = r"rank 1 on \S+ \(pid \d+\)"


def test_an_exception_is_told_once_with_its_traceback_under_torchrun() -> None:
    ended = run(torchrun(3, "raise", "1"))
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(RANK_1 + r" failed at step 5:", ended.reports[0])
    assert ended.output.count("Traceback (most recent call last):\n  File") >= 1
    assert ended.output.count("\nValueError: the root cause\n") == 1
    # torchrun's own closing report names the same cause for every rank, and no connection of gloo's.
    assert re.search(r"traceback : " + RANK_1 + r" failed: ValueError: the root cause", ended.output)
    assert "gloo" not in ended.output


def test_a_killed_rank_is_named_with_its_signal_under_torchrun() -> None:
    process = start(torchrun(3, "kill", "1"))
    (ended,) = finish([process])
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(RANK_1 + rf" {KILLED}; last seen at step 5", ended.reports[0])
    assert "SIGKILL" in ended.output
    assert not end_session(process)


def test_a_rank_killed_while_the_process_groups_open_is_named() -> None:
    """Gloo would wait for it for the whole time-out, longer than this test has patience."""
    ended = run_by_hand(3, "die-opening", "1", "--timeout", str(2 * PATIENCE))
    assert [one.status for one in ended] == [1, -signal.SIGKILL, 1]
    reports = [report for one in ended for report in one.reports]
    assert len(reports) == 1
    assert re.match(RANK_1 + rf" {KILLED}", reports[0])


def test_a_stopped_rank_is_warned_of_named_and_removed_under_torchrun() -> None:
    process = start(torchrun(2, "stop", "1", "--timeout", "8"))
    (ended,) = finish([process])
    assert ended.status == 1
    assert re.search(
        r"LOG " + RANK_1 + r" has not answered for \d+ s \(its process is stopped\); last seen at step 5", ended.output
    )
    assert len(ended.reports) == 1
    assert re.fullmatch(
        RANK_1 + r" has not answered for \d+ s \(its process is stopped\); last seen at step 5", ended.reports[0]
    )
    assert not end_session(process)


def test_a_rank_that_stops_at_the_very_end_is_named_too() -> None:
    """The other one has no collective left that could time out: it waits for rank 1 to leave."""
    ended = run_by_hand(2, "stop", "1", "--steps", "5", "--timeout", "4")
    assert [one.status for one in ended] == [1, -signal.SIGKILL]
    assert re.fullmatch(
        RANK_1 + r" has not answered for \d+ s \(its process is stopped\); last seen at step 4", ended[0].reports[0]
    )


def test_a_rank_whose_words_nobody_reads_ends_all_the_same_and_the_stopped_one_with_it() -> None:
    first, second = start_by_hand(2, "stop", "1", "--timeout", "4")
    wait_for_start(first)
    assert first.stdout is not None
    first.stdout.close()
    try:
        assert first.wait(PATIENCE) == 1
    finally:
        end_session(first)
        ended = finish([second])[0]
    assert ended.status == -signal.SIGKILL


def test_a_rank_that_the_others_gave_up_says_so_in_their_words() -> None:
    lost = loss(Member(1, "host", "id", 7, 0), "has not answered for 4 s", "step 5")
    assert lost.told_by_itself() == "rank 1 on host (pid 7) has not answered for 4 s; last seen at step 5"


def test_a_late_rank_is_told_from_those_that_wait_for_it() -> None:
    ended = run_by_hand(3, "sleep", "1", "--timeout", "4")
    assert [one.status for one in ended] == [1, 1, 1]
    reports = [text for one in ended for text in one.reports]
    assert len(reports) == 1
    assert re.fullmatch(RANK_1 + r" has not come to a collective within its time-out; last seen at step 5", reports[0])


def test_a_user_error_on_all_ranks_is_told_once_and_plainly() -> None:
    ended = run_by_hand(3, "all-user-error")
    assert [one.status for one in ended] == [1, 1, 1]
    assert [one.reports for one in ended] == [["part 3 is missing"], [], []]
    assert not any("Traceback" in one.output for one in ended)


def test_a_user_error_on_one_rank_names_it() -> None:
    ended = run_by_hand(2, "user-error", "1")
    assert [one.status for one in ended] == [1, 1]
    assert ended[0].reports == []
    assert re.fullmatch(RANK_1 + ": part 3 is missing", ended[1].reports[0])


def test_ranks_that_differ_are_told_the_same_thing() -> None:
    ended = run_by_hand(3, "ok", "1", "--belief", "another")
    assert [one.status for one in ended] == [1, 1, 1]
    texts = {text for one in ended for text in one.reports}
    assert len(texts) == 1
    assert re.fullmatch(
        r"the ranks do not agree: --belief is common for rank 0 on .*, rank 2 on .*, another for "
        + RANK_1
        + r"\. Start .*",
        texts.pop(),
    )


def test_ranks_that_differ_in_world_size_do_not_run() -> None:
    ended = run_by_hand(2, "ok", sizes={1: 3})
    for one in ended:
        assert one.status == 1
        assert re.search(r"world size is 2 for rank 0 on .*, 3 for rank 1 on ", one.reports[0])


def test_a_rank_that_never_comes_is_named() -> None:
    (ended,) = run_by_hand(1, "ok", "--join-timeout", "1", sizes={0: 2})
    assert ended.status == 1
    assert ended.reports[0].startswith("rank 1 of 2 did not come within 1 s: ")


def test_ending_torchrun_ends_all_ranks_without_a_word_about_each_other() -> None:
    process = start(torchrun(3, "ok", "--steps", "100000"))
    wait_for_start(process)
    process.terminate()
    (ended,) = finish([process])
    assert ended.status != 0
    assert ended.reports == []
    assert not end_session(process)
