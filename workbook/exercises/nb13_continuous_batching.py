"""Exercises of notebook 13, continuous batching. Requests are numbers here: tokens, pages, order of arrival."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from workbook.exercise import Case, Exercise, Mistake

PAGE = 16


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def static_cases() -> Iterator[Case]:
    for label, outputs, slots, steps, used in (
        ("seven requests, groups of three", ints(3, 9, 2, 6, 8, 3, 5), 3, 22, 36 / 66),
        ("all equally long", ints(4, 4, 4, 4), 2, 8, 1.0),
        ("one place", ints(5, 1, 7), 1, 13, 1.0),
        ("more places than requests", ints(2, 6), 8, 6, 8 / 48),
    ):
        yield Case(label, {"outputs": outputs, "slots": slots}, {"steps": steps, "used": used})


def admit_cases() -> Iterator[Case]:
    # label, waiting prompts, running, slots, free pages, budget, chunks
    for label, prompts, running, slots, free, budget, chunks in (
        ("the second finds too few pages, the third would fit", ints(20, 90, 10), 1, 8, 7, 500, ints(20)),
        ("a page for each who runs is left over", ints(16, 16, 16), 3, 8, 6, 500, ints(16, 16)),
        ("the budget ends inside the second prompt", ints(40, 40, 40), 0, 8, 100, 64, ints(40, 24)),
        ("two places are left", ints(5, 5, 5), 2, 4, 100, 500, ints(5, 5)),
        ("no budget", ints(5), 4, 8, 100, 0, ints()),
        ("nobody waits", ints(), 4, 8, 100, 64, ints()),
        ("17 tokens need two pages", ints(17, 17), 0, 4, 3, 500, ints(17)),
        ("exactly enough", ints(32, 48), 0, 4, 6, 80, ints(32, 48)),
    ):
        inputs = {"prompts": prompts, "running": running, "slots": slots, "free": free, "budget": budget}
        yield Case(label, inputs | {"page_size": PAGE}, {"chunks": chunks})


def plan_cases() -> Iterator[Case]:
    for label, pending, budget, take in (
        ("a long prompt was admitted before two that decode", ints(500, 1, 1), 64, ints(62, 1, 1)),
        ("two prompts, and the budget ends in the second", ints(1, 40, 100, 1), 64, ints(1, 40, 22, 1)),
        ("nothing left for the second prompt", ints(300, 1, 200), 32, ints(31, 1, 0)),
        ("everybody decodes", ints(1, 1, 1), 64, ints(1, 1, 1)),
        ("the end of a prompt is shorter than the budget", ints(7, 1), 64, ints(7, 1)),
        ("nobody", ints(), 64, ints()),
    ):
        yield Case(label, {"pending": pending, "budget": budget}, {"take": take})


def room_cases() -> Iterator[Case]:
    def flags(text: str) -> Any:
        return np.array([letter == "g" for letter in text])

    # label, order of arrival, pages held, who needs one more (g), free pages, who gives up its pages
    for label, arrival, pages, growing, free, victims in (
        ("two need a page, none is free", ints(4, 0, 2), ints(3, 2, 9), "-gg", 0, ints(0)),
        ("the newest was one of those who need a page", ints(1, 3, 2), ints(5, 1, 4), "ggg", 1, ints(1)),
        ("one is not enough", ints(0, 1, 2, 3), ints(8, 4, 1, 1), "ggg-", 0, ints(3, 2)),
        ("enough are free", ints(0, 1), ints(2, 2), "gg", 2, ints()),
        ("nobody needs one", ints(0, 1), ints(2, 2), "--", 0, ints()),
        ("of two requests one has to go", ints(0, 1), ints(6, 1), "gg", 0, ints(1)),
    ):
        inputs = {"arrival": arrival, "pages": pages, "growing": flags(growing), "free": free}
        yield Case(label, inputs, {"victims": victims})


EXERCISES = [
    Exercise(
        id="13.1",
        title="what a static batch wastes",
        kind="python",
        function="static_batches",
        lines=3,
        cases=static_cases,
        mistakes=[
            Mistake(
                "a group lasts as long as its mean",
                "a group is over when its longest request is, not its average one.",
                [("int(group.max())", "float(group.mean())")],
            ),
            Mistake(
                "counts the last group's absent places as used",
                "the share is of slots * steps places, whether or not a request was put there.",
                [("outputs.sum() / (slots * steps)", "outputs.sum() / (min(slots, len(outputs)) * steps)")],
            ),
            Mistake(
                "sorts first",
                "requests are grouped in the order in which they came: sorting them is a scheduler of its own.",
                [("outputs[i : i + slots]", "np.sort(outputs)[i : i + slots]")],
            ),
        ],
    ),
    Exercise(
        id="13.2",
        title="who may come in",
        kind="python",
        function="admit",
        lines=12,
        cases=admit_cases,
        mistakes=[
            Mistake(
                "lets a smaller one overtake",
                "stop at the first that does not fit. If smaller ones overtake it, it may wait for ever.",
                [
                    ("if not fits:\n", "if not (room and budget):\n"),
                    ("        free -= need", "        if not fits:\n            continue\n        free -= need"),
                ],
            ),
            Mistake(
                "rounds pages down",
                "the last page may be partly filled and is needed all the same: round up.",
                [("-(-length // page_size)", "length // page_size")],
            ),
            Mistake(
                "keeps nothing back",
                "keep a free page for each request that runs, those just admitted included: each soon needs one.",
                [("need + present <= free", "need <= free")],
            ),
            Mistake(
                "spends the budget twice",
                "every admitted chunk lowers the budget that is left.",
                [("        budget -= chunks[-1]\n", "")],
            ),
            Mistake(
                "admits only whole prompts",
                "a prompt that is longer than the budget comes in too, with a first chunk.",
                [
                    (
                        "room and budget > 0 and need + present <= free",
                        "room and length <= budget and need + present <= free",
                    )
                ],
            ),
        ],
    ),
    Exercise(
        id="13.3",
        title="one step for prompts and decoding together",
        kind="python",
        function="plan",
        lines=7,
        cases=plan_cases,
        mistakes=[
            Mistake(
                "first come, first served within the step",
                "who decodes comes before every prompt: one token each, so nobody who reads along has to wait.",
                [
                    ("take = np.minimum(pending, 1)", "take = 0 * pending"),
                    ("np.flatnonzero(pending > 1)", "range(len(pending))"),
                    ("budget -= len(pending) - len(prompts)", "pass"),
                ],
            ),
            Mistake(
                "forgets that decoding costs budget",
                "the tokens of those who decode count too: take them off the budget first.",
                [("budget -= len(pending) - len(prompts)", "pass")],
            ),
            Mistake(
                "gives every prompt the whole budget",
                "a chunk uses up budget: what is left goes to the next prompt.",
                [("        budget -= take[i]\n", "")],
            ),
            Mistake(
                "shares the budget out evenly",
                "prompts get it in order of admission: two half-done prompts give no first token, one done gives one.",
                [("min(pending[i], budget)", "min(pending[i], budget // len(prompts))"), ("budget -= take[i]", "pass")],
            ),
        ],
    ),
    Exercise(
        id="13.4",
        title="who has to go when pages run out",
        kind="python",
        function="make_room",
        lines=7,
        cases=room_cases,
        mistakes=[
            Mistake(
                "the oldest goes",
                "the one that came last goes. If the oldest did, the work lost would be the largest, and it could "
                "happen to it again and again.",
                [("np.argmax(np.where(here, arrival, -1))", "np.argmin(np.where(here, arrival, 10**9))")],
            ),
            Mistake(
                "the one with the most pages goes",
                "order of arrival decides, not size: a long request would otherwise never end.",
                [("np.argmax(np.where(here, arrival, -1))", "np.argmax(np.where(here, pages, -1))")],
            ),
            Mistake(
                "who has gone still needs its page",
                "a request that gave up its pages waits now: it no longer needs another one.",
                [("(growing & here).sum()", "growing.sum()")],
            ),
            Mistake(
                "counts on one page each time",
                "all pages of the one that goes become free.",
                [("free += pages[newest]", "free += 1")],
            ),
        ],
    ),
]
