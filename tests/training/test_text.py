"""The parts of the recipe that make and judge text: no PyTorch needed."""

import random
import re

import pytest

from mili.chat_template import ChatTemplate
from training import filter as rules
from training.dialogues import conversation
from training.grammar import ALL_PLOTS, MORALS, story
from training.openings import OPENINGS, with_opening
from training.plots import START
from training.tokenizer import CHAT_TEMPLATE, render, train_tokenizer
from training.words import made_up_name

GLITCH = re.compile(r"[{}\[\]|]|[.!?]\"?\.|,,| [.,!?]| {2}|\b(?!(?:little|no)\b)(\w+) \1\b| a [aeio][a-z]")


def stories(count=400):
    rng = random.Random(8)
    return [story(rng) for _ in range(count)]


def test_every_plot_has_morals():
    assert set(MORALS) == set(ALL_PLOTS)


def test_stories_are_clean_whole_and_about_their_hero():
    for asked, text, slots in stories():
        assert not GLITCH.search(text), GLITCH.search(text)
        assert not GLITCH.search(asked), asked
        assert slots["N"] in text
        assert rules.ends_properly(text)
        assert not rules.loops(text)
        assert 50 <= len(rules.words_of(text)) <= 330


def test_stories_differ_and_the_same_seed_gives_the_same():
    assert len({text for _, text, _ in stories()}) == 400
    assert stories(20) == stories(20)


def test_other_first_lines_keep_the_plot():
    rng = random.Random(2)
    for key, (_, template) in ALL_PLOTS.items():
        changed = with_opening(rng, key, template)
        assert (changed == template) == (not template.startswith(START))
        assert changed.endswith(template[-200:])
    assert len(OPENINGS) == 9


def test_made_up_names_are_many():
    rng = random.Random(1)
    names = {made_up_name(rng) for _ in range(500)}
    assert len(names) > 300
    assert all(re.fullmatch(r"[A-Z][a-z]{1,11}", name) for name in names)


def test_render_is_the_chat_template():
    messages = conversation(random.Random(3))
    text = render((m["role"], m["content"]) for m in messages)
    assert ChatTemplate(CHAT_TEMPLATE, {}).render(messages, add_generation_prompt=False) == text
    assert (
        ChatTemplate(CHAT_TEMPLATE, {}).render(messages, add_generation_prompt=True) == text + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("he said yes to me, " * 3, False),
        ("he said yes to me, " * 4, True),
        ("one two three four five six seven", False),
    ],
)
def test_a_loop_is_a_4_gram_four_times(text, looping):
    assert rules.loops(text) is looping


@pytest.mark.parametrize(
    ("text", "proper"),
    [
        ("The end.", True),
        ('"Yes!"', True),
        ("He went to", False),
        ('"Yes! he said.', False),
    ],
)
def test_what_ends_properly(text, proper):
    assert rules.ends_properly(text) is proper


def test_the_filter_names_its_reason():
    good = next(text for _, text, _ in stories() if rules.why_not(text, "", True) == "")
    name = next(word for word in good.split() if word[0].isupper())
    assert rules.why_not(good, name, False) == "unfinished"
    assert rules.why_not(good, "Nobodyatall", True) == "hero missing"
    assert rules.why_not(good[: good.index(".") + 1], name, True) == "length"
    assert rules.why_not("As an AI, " + good, name, True) == "markup or talk about the task"


def test_tokenizer_round_trip_and_special_tokens():
    texts = [text for _, text, _ in stories(60)]
    tokenizer = train_tokenizer(texts, 600)
    assert tokenizer.get_vocab_size() == 600
    for text in [*texts[:5], "tabs\tand\n\n\nlines, naïve façade 123 €"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    ids = tokenizer.encode("<|im_start|>user\nHello<|im_end|>\n").ids
    assert ids[0] == tokenizer.token_to_id("<|im_start|>") == 592
