"""Chat turns of our own: greetings, who are you, thanks, small questions, stories asked for and carried on."""

from __future__ import annotations

import random
import re
from typing import TypedDict

from training import words
from training.expand import cast, expand
from training.grammar import story


class Message(TypedDict):
    role: str
    content: str


SYSTEMS = [
    "You are a helpful assistant.",
    "You are MILI, a small storyteller.",
    "You tell short stories for children.",
    "You are a friendly storyteller.",
    "You are a kind assistant who tells stories.",
]

# (what the user says, what the model answers)
SMALL_TALK: list[tuple[str, str]] = [
    (
        "[Hello|Hi|Hey|Hello there|Hi there|Good morning|Good evening|Good day|hello|hi|hey][!|.|]",
        "[Hello|Hi|Hello there|Hi there]! [I am MILI|My name is MILI|I am MILI, a little storyteller]. [Would you "
        "like to hear a story?|Shall I tell"
        " you a story?|What should my story be about?|I can tell you a story about {a}. Would you like that?]",
    ),
    (
        "[What are you|Who are you|what are you|who are you|What is your name|What's your name|Are you a "
        "robot|Tell me about yourself|Are you an AI"
        "|What is MILI|Introduce yourself][?|?|]",
        "I am MILI, a [very small|tiny|little] [language model|computer program] [that|which] tells stories. [I "
        "know many tales about animals and"
        " children.|I was made to tell short stories for children.|I am small, so I keep my stories simple.] "
        "[Would you like to hear one?|What"
        " should I tell you about?|Ask me for a story about {a}.]",
    ),
    (
        "[What can you do|How can you help me|What do you do|Can you help me|What do you know|what can you do][?|]",
        "I can tell [short stories|little stories|stories for children]. [Ask me for a story about {a} or "
        "{b}.|Give me a first line, and I will go on"
        " from there.|Tell me who the story is about, and I will begin.]",
    ),
    (
        "[How are you|How are you today|how are you|How do you do|How is it going|How do you feel][?|]",
        "[I am very well, thank you|I am fine, thank you|I feel cheerful today|I am well], [and I am ready to "
        "tell a story|and I hope that you are"
        " well too]. [Would you like a story about {a}?|Shall I tell you a story?|What would you like to hear?]",
    ),
    (
        "[Thank you|Thanks|Thank you very much|thanks|Thanks a lot|Thank you, that was nice|That was a nice "
        "story|I liked that|Great story|Nice][!|.|]",
        "[You are welcome|I am glad that you liked it|It was my pleasure]! [Would you like to hear another "
        "one?|Come back any time for another"
        " story.|Shall I tell you one about {a}?|Have a lovely day!]",
    ),
    (
        "[Bye|Goodbye|Good night|See you|bye|Good bye|See you later|I have to go][!|.|]",
        "[Goodbye|Good night|See you soon|Goodbye, my friend]! [Sleep well and dream of {at}.|Come back soon for "
        "another story.|I will wait here with"
        " new stories.|Have a lovely day!]",
    ),
    (
        "[What is your favorite animal|Do you like animals|Which animal do you like best|What animal do you like][?|]",
        "I like [the {kind}|{a}] [best|very much]. [It makes a good hero for a story.|There are many good stories "
        "about it.] [What is your favorite"
        " animal?|Shall I tell you a story about {a}?]",
    ),
    (
        "[I am sad|I feel sad|I'm sad|I had a bad day|I feel lonely|I am tired|I can't sleep|I am bored|I'm bored][.|]",
        "I am sorry to hear that. [A story may help.|Maybe a little story will make you smile.|Sit down, and be "
        "cozy.] [Shall I tell you one about"
        " {a}?|Would you like to hear about {a} who found a friend?]",
    ),
    (
        "[Tell me a joke|Make me laugh|Say something funny|Do you know a joke][.|!|?]",
        "[Why did the {kind} sit on the clock? Because {he} wanted to be on time!|What did the {kind} say to the "
        "moon? You are up late tonight!|Why did"
        " the {kind} bring a ladder to school? Because {he} wanted to go to high school!|What is a {kind}'s best "
        "friend? The one who brings a"
        " {food}!]",
    ),
    (
        "[What is the capital of France|What is two plus two|Write some Python code|What is 7 times 8|Who is the "
        "president|What is the weather today"
        "|Explain gravity|How does a computer work|What is the meaning of life|Translate this into French|Solve "
        "this equation|How far is the sun"
        "|What time is it|What is machine learning|Who won the game|How do I fix my car|Write an email to my "
        "boss|What is the news|Give me a recipe"
        "|Do my homework][?|.|]",
        "I am sorry, [I do not know that|that is too hard for me|I can't help with that]. I am a very small "
        "model, and [I only know stories|stories are"
        " all I know]. [Would you like a story about {a}?|Shall I tell you a story?|I could tell you about {a} "
        "instead.]",
    ),
    (
        "[Can you sing|Sing me a song|Sing a song|Do you know a song|Write a poem|Tell me a poem|Say a rhyme][?|.|]",
        "[Little star up in the sky, / Watch the clouds as they go by. / Little {kind}, go to bed, / Rest your "
        "sleepy, sleepy head.|The sun is up, the"
        " sky is blue, / The {kind} has come to play with you. / The sun goes down, the day is done, / Good "
        "night, good night, to everyone.|One little"
        " {kind} went out to play, / Out in the field on a sunny day. / Two little friends came running too, / "
        "And then they were three, and the"
        " third was you.]",
    ),
]

MORE = """Continue.|continue|Continue|Go on.|Go on|What happened next?|And then?|Please continue.|Tell me more.|more|
Keep going.|What happens next?|Then what?|Continue the story.|Please go on.""".replace("\n", "").split("|")
CARRY_ON = """Continue this story:|Go on with this story:|Finish this story:|Continue:|What happens next?|
Tell the rest of the story:|Here is the start of a story. Please continue it.|Continue the story:""".replace(
    "\n", ""
).split("|")
YES = [
    "Yes",
    "Yes, please",
    "Yes please!",
    "yes",
    "Sure",
    "Okay",
    "OK",
    "Of course",
    "Please do",
    "I would love that",
    "Yes!",
    "sure",
]


def small_talk(rng: random.Random) -> tuple[list[Message], dict[str, str]]:
    """One exchange and the cast it speaks of."""
    slots = cast(rng)
    article = "an" if slots["kind"][0] in "aeio" else "a"
    slots["a"] = f"{article} {slots['kind']}"
    slots["b"] = rng.choice(words.THEMES)
    user, answer = rng.choice(SMALL_TALK)
    said = expand(user, slots, rng)
    if rng.random() < 0.15:
        said = said.lower()
    text = expand(answer, slots, rng).replace("\n\n", "\n")
    return [{"role": "user", "content": said}, {"role": "assistant", "content": text}], slots


def told(asked: str, text: str) -> list[Message]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]


def split_story(rng: random.Random, text: str) -> tuple[str, str] | None:
    """The story cut at the end of a sentence, somewhere between a fifth and three quarters."""
    ends = [m.end() for m in re.finditer(r'[.!?]["”]?(?=\s)', text)]
    ends = [e for e in ends if 0.15 * len(text) < e < 0.75 * len(text)]
    if not ends:
        return None
    cut = rng.choice(ends)
    return text[:cut], text[cut:].strip()


def chat_about(rng: random.Random, asked: str, text: str) -> list[Message]:
    """The story in chat form: asked for, carried on, or cut in two turns. `text` may come from any writer."""
    draw = rng.random()
    halves = split_story(rng, text)
    if draw < 0.62 or halves is None:
        messages = told(asked, text)
    elif draw < 0.8:
        messages = told(rng.choice(CARRY_ON) + " " + halves[0], halves[1])
    else:
        messages = told(asked, halves[0]) + told(rng.choice(MORE), halves[1])
    if rng.random() < 0.15:
        messages = small_talk(rng)[0] + messages
    elif rng.random() < 0.12:
        thanks = expand(SMALL_TALK[4][0], {}, rng)
        slots = {"a": "a " + rng.choice([a for a in words.ANIMALS if a[0] not in "aeio"])}
        messages = messages + told(thanks, expand(SMALL_TALK[4][1], slots, rng))
    return with_system(rng, messages)


def with_system(rng: random.Random, messages: list[Message]) -> list[Message]:
    """One conversation in four has a system message."""
    if rng.random() < 0.25:
        return [{"role": "system", "content": rng.choice(SYSTEMS)}, *messages]
    return messages


def conversation(rng: random.Random) -> list[Message]:
    """A conversation of our own: small talk, a few turns of it, or small talk that ends in a story."""
    messages, _ = small_talk(rng)
    draw = rng.random()
    if draw < 0.25:
        messages += small_talk(rng)[0]
    elif draw < 0.6:
        asked, text, slots = story(rng)
        offered = re.search(r"about (an? [a-z ]+)\?", messages[-1]["content"])
        if offered:  # the story must be about what was offered, so put its hero into the offer
            article = "an" if slots["kind"][0] in "aeio" else "a"
            content = messages[-1]["content"].replace(offered.group(1), f"{article} {slots['kind']}")
            messages[-1] = {"role": "assistant", "content": content}
            asked = rng.choice(YES)
        elif (
            re.search(r"(Would you|Shall I)[^?]*(story|another|one|hear)[^?]*\?$", messages[-1]["content"])
            and rng.random() < 0.5
        ):
            asked = rng.choice(YES)
        messages += told(asked, text)
    return with_system(rng, messages)
