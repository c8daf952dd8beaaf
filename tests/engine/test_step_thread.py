"""The thread that runs steps: what is posted runs between them, it rests when idle, and it always ends."""

import threading

import pytest

from mili.step_thread import StepThread


def test_posted_actions_run_between_steps_and_wake_an_idle_thread():
    seen = []
    thread = StepThread(lambda: bool(seen.append("step")), lambda error: None)
    thread.start("steps")
    for i in range(50):
        assert thread.call(lambda i=i: seen.append(i) or i, timeout=5) == i
    thread.stop()
    numbers = [item for item in seen if item != "step"]
    assert numbers == list(range(50))
    # Idle turns are few: a thread that does not rest would have run thousands.
    assert len(seen) - len(numbers) <= 3 * len(numbers)


def test_errors_of_a_call_go_to_the_caller_and_the_thread_goes_on():
    thread = StepThread(lambda: False, lambda error: None)
    thread.start("steps")
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0, timeout=5)
    assert thread.call(lambda: "still here", timeout=5) == "still here"
    thread.stop()
    assert not thread.running


def test_without_a_thread_calls_run_at_once_and_posted_actions_wait():
    seen = []
    thread = StepThread(lambda: False, lambda error: None)
    thread.post(lambda: seen.append("posted"))
    assert thread.call(lambda: len(seen), timeout=0) == 0
    assert thread.pending == 1
    thread.stop()
    assert (seen, thread.pending) == (["posted"], 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failing_step_is_told_and_ends_the_thread():
    told = threading.Event()
    errors = []

    def fail():
        raise ValueError("broken")

    thread = StepThread(fail, lambda error: (errors.append(error), told.set()))
    thread.start("steps")
    assert told.wait(5)
    thread.stop()
    assert [str(error) for error in errors] == ["broken"]


def test_it_ends_whenever_it_is_stopped():
    for _ in range(300):
        thread = StepThread(lambda: False, lambda error: None)
        thread.start("steps")
        ended = threading.Thread(target=thread.stop, daemon=True)
        ended.start()
        ended.join(5)
        assert not ended.is_alive(), "stop() waits for ever"
