"""Exercises of notebook 02, Mojo in an hour."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from workbook.exercise import Case, Exercise, Mistake

LANES = 16
STEP = 4 * LANES
LENGTHS = (147, 16, 64, 1, 15, 63, 129, 200)  # the first has two steps of four registers, one register and a tail


def vectors(n: int) -> tuple[Any, Any]:
    """Two float32 arrays [n], neither constant nor of mean zero."""
    generator = np.random.default_rng(n)
    x, y = generator.standard_normal((2, n)) + 0.4
    return x.astype(np.float32), y.astype(np.float32)


def label_of(n: int) -> str:
    """The length, and what is special about it."""
    return f"{n} elements, {n // LANES} registers and a tail of {n % LANES}"


def lane_cases() -> Iterator[Case]:
    for n, lanes in ((37, 8), (16, 16), (5, 8), (100, 16), (24, 4), (0, 4)):
        x, _ = vectors(n)
        held = np.array([x[: n // lanes * lanes][lane::lanes].sum() for lane in range(lanes)], np.float32)
        tail = x[n // lanes * lanes :].sum()
        yield Case(
            f"{n} elements, {lanes} lanes", {"x": x, "lanes": lanes}, {"lane_sums": held, "tail": tail}, 1e-4, 1e-5
        )


def axpy_cases() -> Iterator[Case]:
    for n in LENGTHS:
        x, y = vectors(n)
        inputs = {"y": y, "x": x, "a": -1.75, "n": n}
        yield Case(label_of(n), inputs, {"y": y + np.float32(-1.75) * x})


def dot_cases() -> Iterator[Case]:
    for n in LENGTHS:
        x, y = vectors(n)
        value = float(np.dot(x.astype(np.float64), y))
        yield Case(label_of(n), {"x": x, "y": y, "n": n}, {"value": value}, 1e-4, 1e-4)


def shares(n: int, tasks: int) -> list[tuple[int, int]]:
    """[first, last) of each task, as `task_range` cuts them."""
    return [(task * n // tasks, (task + 1) * n // tasks) for task in range(tasks)]


def task_cases() -> Iterator[Case]:
    for n, tasks in ((147, 4), (64, 2), (100, 1), (10, 3), (5, 8), (1000, 7)):
        x, y = vectors(n)
        sums = [np.dot(x[first:last].astype(np.float64), y[first:last]) for first, last in shares(n, tasks)]
        inputs = {"x": x, "y": y, "n": n, "tasks": tasks}
        yield Case(f"{n} elements in {tasks} tasks", inputs, {"sums": np.array(sums, np.float32)}, 1e-4, 1e-4)


def sector_cases() -> Iterator[Case]:
    lane = np.arange(32)
    generator = np.random.default_rng(5)
    patterns = {
        "8 bytes, 20 apart, some across two sectors": (20 * lane + 16, 8),
        "float32, neighbours": (4 * lane, 4),
        "all lanes the same element": (0 * lane + 100, 4),
        "float32, one for each sector": (32 * lane, 4),
        "16 bytes, neighbours": (16 * lane + 64, 16),
        "bfloat16, backwards": (1000 - 2 * lane, 2),
        "bytes": (lane + 7, 1),
        "anywhere": (4 * generator.integers(0, 300, 32), 4),
        "a sector each, straddling": (32 * lane + 16, 32),
    }
    for label, (addresses, size) in patterns.items():
        touched = {byte // 32 for address in addresses for byte in range(address, address + size)}
        yield Case(label, {"addresses": addresses, "size": size}, {"sectors": len(touched)})


def without_tail(y: Any, x: Any, a: float, n: int) -> Any:
    full = n // LANES * LANES
    return np.concatenate([y[:full] + np.float32(a) * x[:full], y[full:]])


def dot_of(x: Any, y: Any) -> float:
    return float(np.dot(x.astype(np.float64), y))


def first_chain(x: Any, y: Any, n: int) -> float:
    """Only the first of the four registers is added, and the tail."""
    full = n // STEP * STEP
    return dot_of(
        x[:full].reshape(-1, STEP)[:, :LANES].ravel(), y[:full].reshape(-1, STEP)[:, :LANES].ravel()
    ) + dot_of(x[full:], y[full:])


def same_register(x: Any, y: Any, n: int) -> float:
    """All four chains load the first register of each step."""
    full = n // STEP * STEP
    return 4 * first_chain(x[:full], y[:full], full) + dot_of(x[full:], y[full:])


def equal_shares(x: Any, y: Any, n: int, tasks: int) -> Any:
    each = n // tasks
    return np.array([dot_of(x[t * each : (t + 1) * each], y[t * each : (t + 1) * each]) for t in range(tasks)])


def everything(x: Any, y: Any, n: int, tasks: int) -> Any:
    return np.full(tasks, dot_of(x, y))


FORGOT_TAIL = "What remains after the last whole register needs a loop of its own."

EXERCISES = [
    Exercise(
        id="02.1",
        title="a sum in lanes, in NumPy",
        kind="python",
        function="lane_sums",
        lines=2,
        cases=lane_cases,
        mistakes=[
            Mistake(
                "gives each lane a stretch",
                "lane l takes every `lanes`-th element, not a stretch of neighbours.",
                [("reshape(-1, lanes).sum(axis=0)", "reshape(lanes, -1).sum(axis=1)")],
            ),
            Mistake(
                "adds the lanes of each register",
                "registers are added to one another: sum over registers (axis 0), not over lanes.",
                [("sum(axis=0)", "sum(axis=1)")],
            ),
            Mistake("forgets the tail", "the tail is summed too.", [("x[full:].sum()", "np.float32(0)")]),
            Mistake(
                "counts the tail twice",
                "the tail is what the lanes do not hold.",
                [("x[full:].sum()", "x[full:].sum() * 2")],
            ),
        ],
    ),
    Exercise(
        id="02.2",
        title="axpy in registers",
        kind="mojo",
        function="axpy",
        lines=6,
        cases=axpy_cases,
        mistakes=[
            Mistake(
                "leaves the tail",
                FORGOT_TAIL,
                [("for i in range(full, n)", "for i in range(n, n)")],
                without_tail,
            ),
            Mistake(
                "overwrites y",
                "a * x is added to y: y is read as well as written.",
                [("y.unsafe_load[width=LANES](i) + a", "a"), ("+= a", "= a")],
                lambda y, x, a, n: np.float32(a) * x,
            ),
            Mistake(
                "scales y too",
                "only x is multiplied by a.",
                [
                    ("y.unsafe_load[width=LANES](i) + a * x", "a * y.unsafe_load[width=LANES](i) + a * x"),
                    (
                        "y[unsafe_offset=i] += a * x[unsafe_offset=i]",
                        "y[unsafe_offset=i] = a * (y[unsafe_offset=i] + x[unsafe_offset=i])",
                    ),
                ],
                lambda y, x, a, n: np.float32(a) * (y + x),
            ),
            Mistake(
                "writes past the end",
                FORGOT_TAIL,
                [("var full = n // LANES * LANES", "var full = (n + LANES - 1) // LANES * LANES")],
            ),
        ],
    ),
    Exercise(
        id="02.3",
        title="a dot product in four registers",
        kind="mojo",
        function="dot",
        lines=10,
        cases=dot_cases,
        mistakes=[
            Mistake(
                "drops the tail",
                FORGOT_TAIL,
                [("for i in range(full, n)", "for i in range(n, n)")],
                lambda x, y, n: dot_of(x[: n // STEP * STEP], y[: n // STEP * STEP]),
            ),
            Mistake(
                "adds one chain only",
                "all four registers hold a part of the sum: add them.",
                [("sums[0] + sums[1] + sums[2] + sums[3]", "sums[0]")],
                first_chain,
            ),
            Mistake(
                "loads the same register four times",
                "chain c loads from i + c * LANES.",
                [("i + c * LANES", "i + 0 * c")],
                same_register,
            ),
            Mistake(
                "begins the tail at the last whole register",
                "a step is four registers: the tail begins after the last whole step.",
                [("for i in range(full, n)", "for i in range(n // LANES * LANES, n)")],
                lambda x, y, n: (
                    dot_of(x[: n // STEP * STEP], y[: n // STEP * STEP])
                    + dot_of(x[n // LANES * LANES :], y[n // LANES * LANES :])
                ),
            ),
        ],
    ),
    Exercise(
        id="02.4",
        title="a dot product in tasks",
        kind="mojo",
        function="dot_tasks",
        lines=4,
        cases=task_cases,
        mistakes=[
            Mistake(
                "cuts off the remainder",
                "n need not be a multiple of tasks: `task_range` gives every element to a task.",
                [
                    (
                        "var first, last = task_range(task, tasks, n)",
                        "var first = task * (n // tasks)\n        var last = first + n // tasks",
                    )
                ],
                equal_shares,
            ),
            Mistake(
                "every task does everything",
                "a task takes its share only: begin at `first`, and take last - first elements.",
                [("task_range(task, tasks, n)", "task_range(0, 1, n)")],
                everything,
            ),
            Mistake(
                "all write to one place",
                "task t writes sums[t]: nobody else does.",
                [("sums[unsafe_offset=task]", "sums[unsafe_offset=0]")],
            ),
            Mistake(
                "takes the end for the length",
                "the third argument is a length: last - first.",
                [("last - first", "last")],
            ),
        ],
    ),
    Exercise(
        id="02.5",
        title="the sectors that a warp touches",
        kind="python",
        function="sectors",
        lines=2,
        cases=sector_cases,
        mistakes=[
            Mistake(
                "counts lanes",
                "lanes that touch the same sector fetch it once.",
                [("len(np.unique(np.concatenate([first, last])))", "len(addresses)")],
            ),
            Mistake(
                "looks at first bytes only",
                "a lane's last byte may lie in the next sector.",
                [("np.concatenate([first, last])", "first")],
            ),
            Mistake(
                "one byte too many",
                "the last byte is at address + size - 1.",
                [("addresses + size - 1", "addresses + size")],
            ),
            Mistake(
                "takes a cache line for a sector",
                "a sector has 32 bytes; a line of 128 has four of them.",
                [("addresses // 32, (addresses + size - 1) // 32", "addresses // 128, (addresses + size - 1) // 128")],
            ),
        ],
    ),
]
