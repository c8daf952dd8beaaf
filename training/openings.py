"""First lines of stories, and how the plots of our own go on from them.

Without the second part a model only learns such first lines from the writer of the corpus, whose stories lose their
thread; a story told from a given first line is then far worse than one that was asked for.
"""

from __future__ import annotations

import random

from training.plots import DAY, START

# What the writer of the corpus begins with and the evaluation asks for.
OPENINGS = [
    "Once upon a time, [there was|there lived] a {trait} {kind} named {N}. [{N} lived in {home}.|{He} loved "
    "{game}.|{N} had a friend named {F}.|]",
    "Once there was a {trait} {kind} [called|named] {N} who lived in {home}.",
    "{N} was a {trait} {kind}. [Every day, {he} went to {place}.|{He} lived in {home}.|{His} best friend was {F} "
    "the {fkind}.|{He} had a {toy}.]",
    "One [sunny|rainy|cold|warm|windy|quiet] [morning|afternoon|day|evening], {N} the {kind} [went to "
    "{place}|woke up early|found a {toy} {at}|was playing {at}].",
    "Long ago, a {trait} {kind} named {N} lived in {home}[| with {his} {parent}].",
    "There once was a {trait} {kind} named {N}. {N} and {F} the {fkind} were [best|good] friends.",
    "It was a [sunny|rainy|cold|snowy|windy] day, and {N} the {kind} was [{at}|very bored|very happy|looking for "
    "{his} {thing}].",
    "\"[Where is my {thing}|What a lovely day|I am so hungry|Look what I found|Let us go to {place}]!\" said {N} "
    "the {kind}.",
    "In {home}, there lived a {trait} {kind} named {N}.",
]  # fmt: skip

# A hero is presented: the plot begins with a day of its own, as after START.
PRESENTED = [
    *(OPENINGS[i] for i in (0, 1, 2, 4, 5, 8)),
    "[Deep {at}|Far away|High on a hill|At the edge of the village|Near {place}], there [was|lived] a {trait} {kind} "
    "[named|called] {N}.",
    "There [was once|once lived|was] a [{trait} |]{kind} [who loved {game}|with a {toy}|who lived in {home}]. [{His} "
    "name was {N}.|Everyone called {him} {N}.]",
    "A {trait} {kind} [named|called] {N} lived in {home}.",
    "This is [the|a] story [of|about] {N}, a {trait} {kind} who [lived in {home}|loved {game}].",
    "{N} the {kind} [loved {game}|lived in {home}|had a {toy} that {he} took everywhere|was {trait} and {trait2}].",
]

# A scene has begun: (first line, what leads to the plot). The plot then happens on the same day.
SCENES = [
    (OPENINGS[3], "[{N} was a {trait} {kind} who lived in {home}.|{He} was {glad}.|{He} hummed a little song.|]"),
    ("It was a [sunny|rainy|cold|snowy|windy] day, and {N} the {kind} was {at}.",
     "[{He} liked it there.|{N} came there every day.|{N} was a {trait} {kind}.|{He} was {glad}.|]"),
    ("It was a [sunny|rainy|cold|snowy|windy] day, and {N} the {kind} was very bored.",
     "[{He} did not know what to do.|\"What can I do?\" {he} asked {his} {parent}.|{He} had played {game} all "
     "morning.|]"),
    ("It was a [sunny|rainy|cold|snowy|windy] day, and {N} the {kind} was very happy.",
     "[{He} sang a song for {his} {parent}.|{He} had slept well.|{He} liked such days best.|]"),
    ("It was a [sunny|rainy|cold|snowy|windy] day, and {N} the {kind} was looking for {his} {thing}.",
     "[{He} looked here and there.|{His} {parent} helped {him}.] [At last it was in {his} hand again.|It was "
     "{hiding}.|\"Here it is!\" {he} said.]"),
    ("\"Where is my {thing}!\" said {N} the {kind}.",
     "[{His} {parent} smiled. \"It is {hiding}, where you left it.\"|\"Look {hiding},\" said {his} {parent}, and there "
     "it was.]"),
    ("\"What a lovely day!\" said {N} the {kind}.",
     "[{He} looked out of the window.|{He} ran out of the house.|{He} lived in {home}.|{N} was a {trait} {kind}.]"),
    ("\"I am so hungry!\" said {N} the {kind}.",
     "[{His} {parent} gave {him} a slice of bread.|So {his} {parent} made some soup.|{He} ate a big breakfast.]"),
    ("\"Look what I found!\" said {N} the {kind}.",
     "[It was a {colour} stone.|It was a pretty leaf.|It was a shiny coin.] [{He} put it in {his} pocket.|{He} showed "
     "it to {his} {parent}.]"),
    ("\"Let us go to {place}!\" said {N} the {kind}.",
     "[\"Not now,\" said {his} {parent}, \"but you may go later.\"|{His} {parent} laughed. \"Yes, but come home for "
     "dinner.\"]"),
]  # fmt: skip

THAT_DAY = "[Later that day|Soon after that|A little later|That same day|After a while], "
AFTER_A_SCENE = ("fear", "gift", "bedtime", "sick", "giant")  # go on from a scene, though without a day of their own
NOT_YET_FRIENDS = ("newfriend", "giant", "school", "snow")  # plots in which hero and friend meet for the first time


def with_opening(rng: random.Random, key: str, template: str) -> str:
    """The template of plot `key` with another first line; unchanged if it has a beginning of its own."""
    if not template.startswith(START):
        return template
    rest = template[len(START) :]
    if rng.random() < 0.5 or not (rest.startswith(DAY) or key in AFTER_A_SCENE):
        choices = [o for o in PRESENTED if "{F}" not in o or key not in NOT_YET_FRIENDS]
        return f"{rng.choice(choices)} {rest}"
    first, lead = rng.choice(SCENES)
    if rest.startswith(DAY):
        rest = THAT_DAY + rest[len(DAY) :]
    return f"{first} {lead} {rest}"
