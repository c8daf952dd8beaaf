"""Prompts for the writer of the corpus: each asks for a story in many ways, most with the first sentence given.

`python -m training.prompts --count 5` shows some.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass

from training.expand import cast, expand
from training.grammar import MORALS, request
from training.openings import OPENINGS
from training.smollm2 import chat

TROUBLE = """[finds {colour_a} {thing} {at}|loses {his} {toy}|is afraid of {fear}|wants to build {build}|plants a tiny
seed|meets a {ftrait} {fkind} |helps a {fkind} who is lost|makes {gift} for a friend|gets lost {at}|learns to
share {his} {food}|can not sleep|has a birthday|tells a lie and says sorry|goes on a trip to {place}|hears a
strange noise at night|wants to touch the moon|finds a treasure map|has a bad dream|finds a baby {fkind}|gets
caught in a storm|breaks {parent}'s cup|wins a race|goes to school for the first time|bakes a cake|makes friends
with a {fkind}|wants to fly|opens a secret door|sees a rainbow|helps {his} {parent}|plays {game} with {F} the
{fkind}|cleans up {his} room|follows a butterfly|finds a magic {thing}]"""

ASK = """[Write|Please write|Tell me|Tell] [a short story|a very short story|a short bedtime story|a simple story|
a short children's story] [for a young child |for small children |for a three-year-old |]about {hero} who {trouble}.
[Use easy words.|Use short sentences and easy words.|The story has a happy ending.|The story teaches that
{moral}.|Write three short paragraphs.|Write two short paragraphs.|Include some talking between {N} and {F}.|]
[End with what {N} learned.|Keep it short.|It should be easy to read.||]"""

MORALS_FLAT = [moral for morals in MORALS.values() for moral in morals]


@dataclass
class Prompt:
    text: str  # what the writer sees
    opening: str  # the start of the answer, part of the story
    asked: str  # how a user of our model would ask for this story
    name: str  # the hero, who must appear


def prompt(rng: random.Random) -> Prompt:
    """A request with a cast of its own; four in five have an opening."""
    slots = cast(rng)
    slots["moral"] = rng.choice(MORALS_FLAT)
    slots["colour_a"] = f"a {slots['colour']}"
    slots["hero"] = f"a {slots['trait']} {slots['kind']} named {slots['N']}"
    slots["trouble"] = expand(TROUBLE, slots, rng)
    slots["trouble"] = slots["trouble"][0].lower() + slots["trouble"][1:]
    asking = expand(ASK, slots, rng)
    opening = expand(rng.choice(OPENINGS), slots, rng) if rng.random() < 0.8 else ""
    article = "an" if slots["kind"][0] in "aeio" else "a"
    who = rng.choice(
        [f"{article} {slots['kind']}", slots["N"], f"{article} {slots['kind']} named {slots['N']}", slots["hero"]]
    )
    subject = rng.choice([who, who, f"{who} who {slots['trouble']}", ""])
    return Prompt(chat(asking, opening), opening, request(rng, subject), slots["N"])


def prompts(seed: int, count: int) -> list[Prompt]:
    rng = random.Random(seed)
    return [prompt(rng) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    arguments = parser.parse_args()
    for item in prompts(arguments.seed, arguments.count):
        print(item.text + " ...\n  asked as: " + item.asked + "\n")


if __name__ == "__main__":
    main()
