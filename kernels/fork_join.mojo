"""Fork and join: run the parts of one operation on all cores, and come back when all are done.

A token of a small model is some 200 operations of 10 to 100 microseconds, so starting the other cores must cost far
less than that. Here it costs 0.2 microseconds, where `sync_parallelize` costs 18 (two cores, AVX-512 server in a
virtual machine): helper threads do not sleep between operations, they watch one word of memory, for SPIN_NS at most.

    word   [ generation: 32 bits | tasks: 16 | next: 16 ]       fetch_add(1) takes task `next` of exactly that job

    caller   writes the job, stores the word, rings the bell, takes tasks itself, waits until `done` = tasks
    helper   sees next < tasks: takes a task, runs it, adds to `done`;  nothing for SPIN_NS: sleeps on the bell (futex)

Job, count and index change in one atomic word, so a helper that comes late can neither run a task twice nor mistake a
new job for an old one; and a job is complete when its tasks are, not when its helpers have come: if the other cores
are busy elsewhere, the caller does the work. A second caller at the same time runs its tasks alone.

A closure cannot be handed to another thread as a plain pointer in Mojo 1.2, so a job is a struct with a `run` method.
"""

from max.algorithm import sync_parallelize
from max.runtime.asyncrt import parallelism_level
from std.atomic import Atomic, Ordering
from std.ffi import _Global, external_call
from std.memory.alloc import unsafe_alloc
from std.sys._assembly import inlined_assembly
from std.sys.info import CompilationTarget
from std.time import perf_counter_ns

comptime SPIN_NS = 100_000
"""How long a helper watches for work before it sleeps; longer than the serial stretches inside a forward pass."""

comptime YIELD_AFTER = 4096
"""Looks at `done` before the caller offers its core to whoever holds up the last task."""

comptime MOST_TASKS = 0x7FFF
comptime SYSCALL_FUTEX = 202 if CompilationTarget.is_x86() else 98
comptime FUTEX_WAIT_PRIVATE = 128
comptime FUTEX_WAKE_PRIVATE = 129

comptime Held[dtype: DType] = Pointer[Scalar[dtype], MutUntrackedOrigin]
"""A pointer as a field of a job; its memory outlives the job, because the caller waits."""

comptime Address = Pointer[NoneType, MutAnyOrigin]
comptime TeamPtr = Pointer[Team, MutUntrackedOrigin]
comptime Entry = def(Address, Int) thin -> None


@always_inline
def hold[
    dtype: DType, //
](p: Pointer[Scalar[dtype], MutAnyOrigin]) -> Held[dtype]:
    """The pointer as a field of a job."""
    return p.unsafe_origin_cast[MutUntrackedOrigin]()


trait Job(Deinitable, ImplicitlyCopyable, Movable):
    """Work that can be cut into tasks."""

    def run(self, task: Int):
        """Does task `task`; tasks run in any order and at the same time."""
        ...


def enter[J: Job](job: Address, task: Int):
    """`run` of a job known by its address."""
    job.unsafe_bitcast[J]()[].run(task)


def no_job(job: Address, task: Int):
    """The job before the first."""
    pass


struct Team:
    """The state that caller and helpers share; each atomic has a cache line of its own.
    """

    var word: Atomic[Int64]
    var pad0: SIMD[DType.int64, 8]
    var done: Atomic[Int32]
    var pad1: SIMD[DType.int64, 8]
    var bell: Atomic[Int32]
    var asleep: Atomic[Int32]
    var pad2: SIMD[DType.int64, 8]
    var busy: Atomic[Int32]
    var entry: Entry
    var job: Int
    var generation: Int64
    var helpers: Int

    def __init__(out self):
        self.word = Atomic[Int64](0)
        self.done = Atomic[Int32](0)
        self.bell = Atomic[Int32](0)
        self.asleep = Atomic[Int32](0)
        self.busy = Atomic[Int32](0)
        self.pad0 = 0
        self.pad1 = 0
        self.pad2 = 0
        self.entry = no_job
        self.job = 0
        self.generation = 0
        self.helpers = 0


@always_inline
def pause():
    """Tells the core that this is a waiting loop."""
    comptime if CompilationTarget.is_x86():
        inlined_assembly[
            "pause",
            NoneType,
            constraints="~{memory}",
            has_side_effect=True,
        ]()
    else:
        inlined_assembly[
            "yield",
            NoneType,
            constraints="~{memory}",
            has_side_effect=True,
        ]()


@always_inline
def tasks_left(word: Int64) -> Bool:
    """Whether a task of the word's job is still to be taken."""
    return word & 0xFFFF < (word >> 16) & 0xFFFF


def work(team: TeamPtr):
    """Takes and runs tasks until none is left."""
    while tasks_left(team[].word.load[ordering=Ordering.ACQUIRE]()):
        var taken = team[].word.fetch_add(1)
        if tasks_left(taken):
            team[].entry(
                Address(unsafe_from_address=team[].job), Int(taken & 0xFFFF)
            )
            _ = team[].done.fetch_add(1)


def helper(argument: Address) abi("C") -> Address:
    """The life of a helper thread: it ends with the process."""
    var team = argument.unsafe_bitcast[Team]().unsafe_origin_cast[
        MutUntrackedOrigin
    ]()
    while True:
        var heard = team[].bell.load()
        var since = perf_counter_ns()
        var looks = 0
        while not tasks_left(team[].word.load[ordering=Ordering.ACQUIRE]()):
            pause()
            looks += 1
            if looks % 64 == 0 and perf_counter_ns() - since > SPIN_NS:
                _ = team[].asleep.fetch_add(1)
                # The kernel compares again: a bell between this look and the sleep is not missed.
                if not tasks_left(team[].word.load()):
                    _ = external_call["syscall", Int](
                        SYSCALL_FUTEX,
                        Int(Pointer(to=team[].bell)),
                        FUTEX_WAIT_PRIVATE,
                        Int(heard),
                        0,
                        0,
                        0,
                    )
                _ = team[].asleep.fetch_sub(1)
                heard = team[].bell.load()
                since = perf_counter_ns()
        work(team)


def start_team() -> TeamPtr:
    """Starts one helper for each core but the caller's. A thread that cannot be had is done without.
    """
    var team = unsafe_alloc[Team](1)
    team.unsafe_write(Team())
    for _ in range(parallelism_level(None) - 1):
        var thread = Int64(0)
        var failed = external_call["pthread_create", Int32](
            Pointer(to=thread), Int(0), helper, Int(team)
        )
        if failed == 0:
            _ = external_call["pthread_detach", Int32](thread)
            team[].helpers += 1
    return team


comptime TEAM = _Global["mili_fork_join_team", start_team]


def run_alone[J: Job](job: J, tasks: Int):
    """All tasks, one after another."""
    for task in range(tasks):
        job.run(task)


def fork_join[J: Job](job: J, tasks: Int):
    """Runs `job.run(0)` to `job.run(tasks - 1)` on all cores and returns when all are done.
    """
    comptime if not CompilationTarget.is_linux():

        def run(task: Int) {var job}:
            job.run(task)

        sync_parallelize(run, tasks)
    else:
        if tasks <= 1 or tasks > MOST_TASKS:
            run_alone(job, tasks)
            return
        try:
            run_together(TEAM.get_or_create_ptr()[], job, tasks)
        except:
            run_alone(job, tasks)


def run_together[J: Job](team: TeamPtr, job: J, tasks: Int):
    """One job at a time: the caller that finds the team busy works alone."""
    if team[].helpers == 0 or team[].busy.fetch_add(1) != 0:
        if team[].helpers != 0:
            _ = team[].busy.fetch_sub(1)
        run_alone(job, tasks)
        return
    team[].entry = enter[J]
    team[].job = Int(Pointer(to=job))
    team[].done.store(0)
    team[].generation = (team[].generation + 1) & 0x7FFFFFFF
    team[].word.store(team[].generation << 32 | Int64(tasks) << 16)
    _ = team[].bell.fetch_add(1)
    if team[].asleep.load() > 0:
        _ = external_call["syscall", Int](
            SYSCALL_FUTEX,
            Int(Pointer(to=team[].bell)),
            FUTEX_WAKE_PRIVATE,
            tasks - 1,
            0,
            0,
            0,
        )
    work(team)
    var looks = 0
    while Int(team[].done.load[ordering=Ordering.ACQUIRE]()) != tasks:
        looks += 1
        if looks < YIELD_AFTER:
            pause()
        else:
            _ = external_call["sched_yield", Int32]()
    _ = team[].busy.fetch_sub(1)
