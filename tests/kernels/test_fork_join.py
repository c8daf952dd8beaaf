"""Fork and join: every task of every job runs exactly once, whoever is asleep or busy."""

import time

import numpy as np
import pytest

from benchmarks.native import load


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 7, 64, 1000, 40_000])
def test_every_task_runs_once_a_job(tasks: int) -> None:
    counts = np.zeros(max(tasks, 1), np.int32)
    rounds = 200_000 // (tasks + 20)
    load("fork_join_native").count(counts.ctypes.data, tasks, rounds)
    assert (counts[:tasks] == rounds).all()


def test_helpers_that_sleep_between_jobs_wake() -> None:
    counts = np.zeros(8, np.int32)
    for _ in range(40):
        load("fork_join_native").count(counts.ctypes.data, 8, 1)
        time.sleep(0.002)
    assert (counts == 40).all()


def test_two_callers_at_once() -> None:
    counts = np.zeros((2, 16), np.int32)
    load("fork_join_native").count_from_two(counts.ctypes.data, 16, 20_000)
    assert (counts == 20_000).all()
