"""Templates: `[one|two|]` picks an alternative (they nest), `{slot}` is filled from the cast of the story."""

from __future__ import annotations

import random
import re

from training import words

MADE_UP = 0.15  # share of the names

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!uni|use|one)[aeiou])")


def expand(template: str, slots: dict[str, str], rng: random.Random) -> str:
    """The template with every choice made and every slot filled; "a" becomes "an" where it must."""
    text = " ".join(template.split())
    while match := _CHOICE.search(text):
        pick = rng.choice(match.group(1).split("|"))
        text = text[: match.start()] + pick + text[match.end() :]
    while "{" in text:  # a slot's text may hold slots
        text = text.format_map(slots)
    text = _ARTICLE.sub(r"\1n ", text)
    text = re.sub(r" +", " ", text).replace(" ,", ",").replace(" .", ".")
    text = text.replace(" / ", "\n\n").strip()
    return re.sub(r"(^\"?|[.!?] \"?|\n\n\"?)([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


def _pronouns(prefix: str, girl: bool, slots: dict[str, str]) -> None:
    he, him, his = ("she", "her", "her") if girl else ("he", "him", "his")
    for key, value in (("he", he), ("him", him), ("his", his), ("self", him + "self")):
        slots[prefix + key] = value
        slots[prefix.capitalize() + key if prefix else key.capitalize()] = value.capitalize()


def cast(rng: random.Random) -> dict[str, str]:
    """Who and what a story is about: the slots that every template may use."""
    slots: dict[str, str] = {}
    taken: set[str] = set()

    def name(pool: list[str]) -> str:
        known = [n for n in pool if n not in taken]
        chosen = words.made_up_name(rng) if rng.random() < MADE_UP else rng.choice(known)
        taken.add(chosen)
        return chosen

    draw = rng.random()
    girl = rng.random() < 0.5
    if draw < 0.45:
        slots["kind"], slots["N"] = ("girl", name(words.GIRLS)) if girl else ("boy", name(words.BOYS))
    else:
        slots["kind"] = rng.choice(words.ANIMALS if draw < 0.85 else words.OTHERS)
        girl = slots["kind"] in words.SHE or (girl and slots["kind"] not in words.HE)
        slots["N"] = name(words.ANIMAL_NAMES if rng.random() < 0.7 else words.GIRLS if girl else words.BOYS)
    _pronouns("", girl, slots)
    girl = rng.random() < 0.5
    slots["fkind"] = rng.choice([a for a in words.ANIMALS if a != slots["kind"]])
    slots["F"] = name(words.ANIMAL_NAMES if rng.random() < 0.6 else words.GIRLS if girl else words.BOYS)
    _pronouns("f", girl, slots)
    slots["gkind"] = rng.choice([a for a in words.ANIMALS if a not in (slots["kind"], slots["fkind"])])
    slots["G"] = name(words.ANIMAL_NAMES)
    _pronouns("g", rng.random() < 0.5, slots)
    parent = rng.choice(["mother", "father", "grandma", "grandpa", "mom", "dad"])
    slots["parent"] = parent
    slots["P"] = {"mother": "Mother", "father": "Father"}.get(parent, parent.capitalize())
    _pronouns("p", parent in ("mother", "grandma", "mom"), slots)
    for key, pool in (
        ("trait", words.TRAITS), ("ftrait", words.TRAITS), ("colour", words.COLOURS), ("thing", words.THINGS),
        ("food", words.FOODS), ("home", words.HOMES), ("at", words.PLACES), ("hiding", words.HIDING),
        ("fear", words.FEARS), ("build", words.BUILDS), ("plant", words.PLANTS), ("game", words.GAMES),
        ("gift", words.GIFTS), ("glad", words.FEELINGS), ("sad", words.SAD),
    ):  # fmt: skip
        slots[key] = rng.choice(pool)
    slots["trait2"] = rng.choice([t for t in words.TRAITS if t != slots["trait"]])
    slots["at2"] = rng.choice([p for p in words.PLACES if p != slots["at"]])
    slots["place"], slots["place2"] = slots["at"].split(" ", 1)[1], slots["at2"].split(" ", 1)[1]
    slots["game2"] = rng.choice([g for g in words.GAMES if g != slots["game"]])
    slots["toy"] = f"{slots['colour']} {slots['thing']}"
    return slots
