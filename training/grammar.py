"""Our own stories: a plot, a cast and a moral that fits, plus the ways in which one may ask for that story."""

from __future__ import annotations

import random

from training.expand import cast, expand
from training.more_plots import MORE_PLOTS
from training.openings import with_opening
from training.plots import PLOTS

ALL_PLOTS = {**PLOTS, **MORE_PLOTS}
OTHER_OPENINGS = 0.6  # share of the stories

MORALS: dict[str, list[str]] = {
    "lost": ["two can look better than one", "it is good to ask for help", "a true friend always helps"],
    "sharing": [
        "sharing makes everyone happy",
        "a treat tastes better with a friend",
        "it is better to give than to keep",
    ],
    "fear": ["it is all right to be afraid", "being brave means trying", "a friend makes you brave"],
    "hurt": ["kindness comes back to you", "being kind costs nothing", "even a small friend can be a big help"],
    "build": ["you should never give up", "working together makes hard work light", "you can always try again"],
    "newfriend": ["a friend can begin with one hello", "it is good to say hello first", "new friends may be shy too"],
    "storm": ["after the rain comes the sun", "a warm home is a good thing to share", "every storm comes to an end"],
    "truth": ["it is good to tell the truth", "the truth makes the heart light", "saying sorry makes things better"],
    "wish": [
        "a friend is worth more than any wish",
        "you can have too much of a good thing",
        "friends are the best gift",
    ],
    "race": ["being kind is better than winning", "it is good to stop and help", "slow feet can carry a big heart"],
    "gift": ["the best gifts come from the heart", "small gifts can be the best", "love makes a gift big"],
    "seed": ["good things take time", "a little care every day makes things grow", "it is good to be patient"],
    "wayhome": ["it is good to ask for help", "there is no place like home", "one should stay on the path"],
    "bedtime": ["a good friend helps you sleep"],
    "cake": ["you can always try again", "one mistake is not the end", "it is wise to watch the oven"],
    "giant": ["a grumpy face can hide a kind heart", "a kind word can open a gate", "everyone needs a friend"],
    "moon": ["a clever friend is a treasure", "you can look at things another way", "the sky can be very near"],
    "school": ["new things can be fun", "one friend makes a new place nice", "the first step is the hardest"],
    "snow": ["no one should be alone", "a warm heart is better than a warm coat", "winter is fun with a friend"],
    "egg": ["love can mean letting go", "everyone needs a family", "small things need care"],
    "map": [
        "a friend is the greatest treasure",
        "the way is as good as the end",
        "the best things are not made of gold",
    ],
    "sick": ["a friend is the best medicine", "laughing helps you to get well", "it is good to visit a sick friend"],
}

VERBS = [
    "Tell me",
    "Please tell me",
    "Can you tell me",
    "Could you tell me",
    "Write",
    "Write me",
    "Please write",
    "Can you write",
    "I want to hear",
    "I would like",
    "Give me",
    "Make up",
    "Read me",
    "tell me",
]
LENGTHS = [
    "a story",
    "a story",
    "a story",
    "a short story",
    "a little story",
    "a bedtime story",
    "a nice story",
    "a children's story",
    "a tale",
    "a short tale",
]


def request(rng: random.Random, subject: str) -> str:
    """One way to ask for a story about `subject`."""
    verb, length = rng.choice(VERBS), rng.choice(LENGTHS)
    text = f"{verb} {length} about {subject}" if subject else f"{verb} {length}"
    question = verb.startswith(("Can", "Could"))
    draw = rng.random()
    if draw < 0.08:
        text = f"Story about {subject}" if subject else "A story"
        question = False
    elif draw < 0.14:
        text, question = (text[0].lower() + text[1:]), False
    if rng.random() < 0.1:
        text += ", please"
    return text + ("?" if question and rng.random() < 0.9 else rng.choice([".", ".", ".", "", "!"]))


def subject_of(rng: random.Random, slots: dict[str, str], theme: str) -> str:
    """What the story is about, in words of the request: all of it true of the story."""
    kind, name, trait, fkind = slots["kind"], slots["N"], slots["trait"], slots["fkind"]
    article = "an" if kind[0] in "aeio" else "a"
    hero = rng.choice([f"{article} {kind}", f"{article} {kind}", f"a {trait} {kind}", f"{article} {kind} named {name}"])
    hero = hero.replace("a old", "an old")
    return rng.choice(
        [
            hero,
            hero,
            hero,
            name,
            theme,
            theme,
            f"{hero} and {theme}",
            f"{article} {kind} and {'an' if fkind[0] in 'aeio' else 'a'} {fkind}",
            f"{name} and {slots['F']}",
            "",
        ]
    )


def story(rng: random.Random) -> tuple[str, str, dict[str, str]]:
    """(request, story, slots). The title-free story is plain text, paragraphs parted by an empty line."""
    key = rng.choice(list(ALL_PLOTS))
    theme, template = ALL_PLOTS[key]
    slots = cast(rng)
    slots["moral"] = rng.choice(MORALS[key])
    slots["Moral"] = slots["moral"][0].upper() + slots["moral"][1:]
    if rng.random() < OTHER_OPENINGS:
        template = with_opening(rng, key, template)
    text = expand(template, slots, rng)
    theme = theme.format_map(slots)
    asked = request(rng, subject_of(rng, slots, theme).replace("a apple", "an apple"))
    return asked, text, slots
