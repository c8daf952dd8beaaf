"""Exercises of notebook 14, the server."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from workbook.compare import CheckFailed
from workbook.exercise import Case, Exercise, Mistake

STREAMS: tuple[tuple[str, bytes, list[str]], ...] = (
    ("two events", b"data: one\n\ndata: two\n\n", ["one", "two"]),
    ("an event of two lines", b"data: a\ndata: b\n\n", ["a\nb"]),
    ("comments, which keep the connection alive", b": waiting\n\ndata: x\n\n: waiting\n\n", ["x"]),
    ("lines that end with CR LF", b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
    ("fields other than data", b"event: note\nid: 7\ndata: z\n\n", ["z"]),
    ("spaces", b"data:  two spaces \n\ndata:none\n\n", [" two spaces ", "none"]),
    ("characters of several bytes", "data: na\u00efve \U0001f98a\n\n".encode(), ["na\u00efve \U0001f98a"]),
    ("an event that the connection cuts off", b"data: whole\n\ndata: half", ["whole"]),
)


def cuts(stream: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """(what was done, pieces): whole, byte by byte, and cut in two at every place."""
    yield "in one piece", [stream]
    yield "byte by byte", [stream[i : i + 1] for i in range(len(stream))]
    for at in range(1, len(stream)):
        yield f"in two pieces, {stream[:at]!r} and {stream[at:]!r}", [stream[:at], stream[at:]]


def judge_events(candidate: Callable[[Iterable[bytes]], Iterator[str]]) -> int:
    """Every stream, cut in every way; and that an event is given as soon as it is complete."""
    count = 0
    for label, stream, expected in STREAMS:
        for how, pieces in cuts(stream):
            found = list(candidate(iter(pieces)))
            if found != expected:
                raise CheckFailed(f"{label}, arriving {how}: your events are {found} but should be {expected}")
            count += 1
    taken = []

    def network() -> Iterator[bytes]:
        for piece in (b"data: one\n\n", b"data: two\n\n"):
            taken.append(piece)
            yield piece

    events = iter(candidate(network()))
    if next(events, None) != "one" or len(taken) != 1:
        raise CheckFailed("the first event is complete with the first piece, but you read on before you yield it")
    return count + 1


def bytes_of(text: str, drop: int = 0) -> Any:
    """The UTF-8 bytes of a text without the last `drop`, as an array."""
    return np.frombuffer(text.encode()[: len(text.encode()) - drop], np.uint8).copy()


def complete_cases() -> Iterator[Case]:
    fox, euro = "\U0001f98a", "\u20ac"
    for label, data in (
        ("a whole character of two bytes", bytes_of("a\u00e9")),
        ("the first of three bytes", bytes_of("a" + euro, 2)),
        ("the first two of three bytes", bytes_of("a" + euro, 1)),
        ("the first of four bytes", bytes_of("say: " + fox, 3)),
        ("the first two of four bytes", bytes_of("say: " + fox, 2)),
        ("the first three of four bytes", bytes_of("say: " + fox, 1)),
        ("a whole character of four bytes", bytes_of(fox + fox)),
        ("a whole character, then a part of one", bytes_of(euro + fox, 2)),
        ("plain ASCII", bytes_of("The end.")),
        ("nothing", bytes_of("")),
        ("bytes that begin no character", np.full(5, 0x80, np.uint8)),
    ):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(data.tobytes())
        yield Case(label, {"data": data}, {"count": len(data) - len(decoder.getstate()[0])})


def service_cases() -> Iterator[Case]:
    for label, requests, seed, goals in (
        ("40 requests", 40, 0, (0.5, 0.06)),
        ("7 requests, strict goals", 7, 1, (0.3, 0.06)),
        ("everybody is content", 12, 2, (10.0, 1.0)),
        ("one request of one token", 1, 3, (1.0, 0.01)),
    ):
        rng = np.random.default_rng(seed)
        arrival = np.cumsum(rng.exponential(0.4, requests)) + 3
        first = arrival + rng.exponential(0.35, requests)
        tokens = rng.integers(1, 30, requests) if requests > 1 else np.array([1])
        end = first + (tokens - 1) * rng.exponential(0.06, requests)
        good = 0
        for a, f, e, n in zip(arrival, first, end, tokens, strict=True):
            each = (e - f) / (n - 1) if n > 1 else 0.0
            good += f - a <= goals[0] and each <= goals[1]
        inputs: dict[str, Any] = {"arrival": arrival, "first": first, "end": end, "tokens": tokens}
        inputs |= {"ttft_goal": goals[0], "tpot_goal": goals[1]}
        seconds = max(end) - min(arrival)
        expected = {"ttft_p95": float(np.percentile(first - arrival, 95)), "goodput": good / seconds}
        yield Case(label, inputs, expected)


EXERCISES = [
    Exercise(
        id="14.1",
        title="server-sent events from any pieces",
        kind="python",
        function="parse_events",
        lines=11,
        judge=judge_events,
        mistakes=[
            Mistake(
                "takes every piece for whole lines",
                "what follows the last line end of a piece is the beginning of a line: keep it for the next piece.",
                [("rest += chunk", "rest = chunk")],
            ),
            Mistake(
                "decodes each piece",
                "a piece may end inside a character: decode whole lines.",
                [("rest += chunk", 'rest += chunk.decode(errors="replace").encode()')],
            ),
            Mistake(
                "strips", "only one space after the colon is not part of the data.", [('removeprefix(" ")', "strip()")]
            ),
            Mistake(
                "joins lines without a line end",
                "the data lines of one event are joined by line feeds.",
                [('"\\n".join(data)', '"".join(data)')],
            ),
            Mistake("knows no CR LF", "a line may end with CR LF.", [('.removesuffix(b"\\r")', "")]),
            Mistake(
                "reads everything first",
                "yield an event as soon as its empty line has come: that is what streaming is for.",
                [("in chunks:", 'in [b"".join(chunks)]:')],
            ),
        ],
    ),
    Exercise(
        id="14.2",
        title="no half characters",
        kind="python",
        function="complete",
        lines=8,
        cases=complete_cases,
        mistakes=[
            Mistake(
                "holds back whole characters",
                "a character whose last byte has come is complete: show it now.",
                [("back < length", "back <= length")],
            ),
            Mistake(
                "shows nothing until all is complete",
                "what stands before the unfinished character can be shown.",
                [("len(data) - back if", "0 if")],
            ),
            Mistake(
                "knows no characters of four bytes",
                "a first byte of 0xF0 or more begins a character of four bytes.",
                [("else 4", "else 3")],
            ),
            Mistake(
                "looks at the last byte only",
                "the first byte of the unfinished character may be up to three bytes back.",
                [("min(3, len(data)) + 1", "min(1, len(data)) + 1")],
            ),
            Mistake(
                "takes every byte above 127 for a first one",
                "bytes from 0x80 to 0xBF continue a character: look further back.",
                [("byte >= 0xC0", "byte >= 0x80")],
            ),
        ],
    ),
    Exercise(
        id="14.3",
        title="tail latency and goodput",
        kind="python",
        function="service",
        lines=5,
        cases=service_cases,
        mistakes=[
            Mistake(
                "gives the mean",
                "the 95th percentile is asked for: the mean hides the slow ones.",
                [("np.percentile(ttft, 95)", "ttft.mean()")],
            ),
            Mistake(
                "counts the first token's wait twice",
                "time per output token begins with the first token, and n tokens have n - 1 gaps.",
                [("(end - first) / np.maximum(tokens - 1, 1)", "(end - arrival) / tokens")],
            ),
            Mistake("either goal will do", "a request is good when it meets both goals.", [(" & ", " | ")]),
            Mistake(
                "gives a share",
                "goodput is a rate: good requests for each second.",
                [("good.sum() / seconds", "good.mean()")],
            ),
            Mistake(
                "stops the clock at the last arrival",
                "the clock runs until the last answer has ended.",
                [("end.max() - arrival.min()", "max(arrival.max() - arrival.min(), 1e-3)")],
            ),
        ],
    ),
]
