"""Threads started while timers are late inherit it; the thread that starts them has its own slack back."""

import sys
import threading

import pytest

from mili.timer_slack import SLACK, late_timers, timer_slack


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_threads_inherit_the_slack_and_the_caller_gets_its_own_back() -> None:
    before = timer_slack()
    seen: list[int] = []
    with late_timers():
        thread = threading.Thread(target=lambda: seen.append(timer_slack()))
        thread.start()
        thread.join()
    assert seen == [SLACK]
    assert timer_slack() == before != SLACK
    with pytest.raises(ValueError, match="a step fails"), late_timers():
        raise ValueError("a step fails")
    assert timer_slack() == before
