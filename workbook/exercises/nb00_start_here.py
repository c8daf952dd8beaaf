"""Exercises of notebook 00: what memory and arithmetic allow."""

from collections.abc import Iterator

from workbook.exercise import Case, Exercise, Mistake

BANDWIDTH = 40e9
PEAK = 300e9


def rate_cases() -> Iterator[Case]:
    for label, parameters, size, bandwidth in (
        ("Qwen3-0.6B in bfloat16, 40 GB/s", 596_049_920, 2, BANDWIDTH),
        ("the same in float32", 596_049_920, 4, BANDWIDTH),
        ("8 billion of half a byte each, 3.35 TB/s", 8_000_000_000, 0.5, 3.35e12),
        ("one weight of one byte", 1, 1, 7.0),
    ):
        inputs = {"parameters": parameters, "size": size, "bandwidth": bandwidth}
        yield Case(label, inputs, {"tokens_per_second": bandwidth / (parameters * size)})


def floor_cases() -> Iterator[Case]:
    for label, moved, flops in (
        ("8 GB and 6 GFLOP, memory-bound", 8e9, 6e9),
        ("1 GB and 90 GFLOP, compute-bound", 1e9, 90e9),
        ("bytes only", 3e6, 0.0),
        ("FLOPs only", 0.0, 5e6),
        ("1 kB and 7 kFLOP, memory-bound by a hair", 1000.0, 7000.0),
    ):
        memory, arithmetic = moved / BANDWIDTH, flops / PEAK
        inputs = {"moved": moved, "flops": flops, "bandwidth": BANDWIDTH, "peak": PEAK}
        yield Case(label, inputs, {"seconds": max(memory, arithmetic), "memory_bound": memory > arithmetic}, 1e-9, 0)


def batch_cases() -> Iterator[Case]:
    for label, batch, weights, cache, flops in (
        ("5 requests with short contexts", 5, 1.2e9, 6e7, 1.2e9),
        ("one request", 1, 1.2e9, 6e7, 1.2e9),
        ("200 requests, where arithmetic is the limit", 200, 1.2e9, 6e7, 1.2e9),
        ("40 requests with long contexts", 40, 1.2e9, 4e9, 1.2e9),
        ("no cache at all", 3, 2e6, 0.0, 1e6),
    ):
        memory = (weights + batch * cache) / BANDWIDTH
        rate = batch / max(memory, batch * flops / PEAK)
        inputs = {
            "batch": batch,
            "weight_bytes": weights,
            "cache_bytes": cache,
            "flops": flops,
            "bandwidth": BANDWIDTH,
            "peak": PEAK,
        }
        yield Case(label, inputs, {"rate": rate})


EXERCISES = [
    Exercise(
        id="00.1",
        title="tokens per second that memory allows",
        kind="python",
        function="tokens_per_second",
        lines=1,
        cases=rate_cases,
        mistakes=[
            Mistake(
                "seconds per token",
                "that is the time of a token: tokens per second is one over it.",
                [("bandwidth / (parameters * size)", "parameters * size / bandwidth")],
            ),
            Mistake(
                "counts parameters for bytes",
                "a parameter has `size` bytes.",
                [("(parameters * size)", "parameters")],
            ),
            Mistake(
                "divides by the size",
                "more bytes for a parameter mean more to read: multiply by `size`.",
                [("parameters * size", "parameters / size")],
            ),
        ],
    ),
    Exercise(
        id="00.2",
        title="the floor of a computation",
        kind="python",
        function="floor",
        lines=2,
        cases=floor_cases,
        mistakes=[
            Mistake(
                "adds the two times",
                "memory and arithmetic work at the same time: the longer of the two counts.",
                [("max(memory, arithmetic)", "memory + arithmetic")],
            ),
            Mistake(
                "takes the shorter time",
                "both must be done: the longer of the two times counts.",
                [("max(", "min(")],
            ),
            Mistake(
                "compares bytes with FLOPs",
                "bytes and FLOPs cannot be compared: compare the times.",
                [("memory > arithmetic", "moved > flops")],
            ),
            Mistake(
                "names the wrong side",
                "memory-bound means that moving the bytes takes longer.",
                [("memory > arithmetic", "memory < arithmetic")],
            ),
        ],
    ),
    Exercise(
        id="00.3",
        title="the rate of a batch",
        kind="python",
        function="batch_rate",
        lines=2,
        cases=batch_cases,
        mistakes=[
            Mistake(
                "reads the weights for each request",
                "the weights are read once for the whole batch.",
                [("weight_bytes + batch * cache_bytes", "batch * (weight_bytes + cache_bytes)")],
            ),
            Mistake(
                "shares the cache",
                "every request has a cache of its own.",
                [("batch * cache_bytes", "cache_bytes")],
            ),
            Mistake(
                "forgets arithmetic",
                "the FLOPs of all requests take time too: with many requests they are the floor.",
                [("max(memory, batch * flops / peak)", "memory")],
            ),
            Mistake(
                "steps per second",
                "a step gives a token to each of the `batch` requests.",
                [("return batch / max", "return 1 / max")],
            ),
        ],
    ),
]
