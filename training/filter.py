"""Which written stories are good enough: ended, not looping, simple, about their hero, free of markup."""

from __future__ import annotations

import re
from collections import Counter

BANNED = re.compile(
    r"as an ai|language model|i'm sorry, but|i cannot|i can't write|"
    r"^here is|^here's|^sure[,!]|^certainly|title:|assistant|user:|"
    r"instruction|http|www\.|this story|the story teaches|the story is|in the story|story ends|paragraph|"
    r"three-year-old|readers?\b|the reader|\bsex|\bkill|\bblood|\bgun\b|\bmurder|"
    r"\bdrunk|\bbeer\b|\bwine\b|<\||\*\*|#|\[|\]|\{|\}|\||_|=|\\|```|:\n",
    re.IGNORECASE,
)
LIST_LINE = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
WORD = re.compile(r"[A-Za-z']+")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"']?\s+")


def clean(text: str) -> str:
    """Straight quotes, plain dashes, single spaces, paragraphs parted by one empty line."""
    for old, new in (
        ("\u201c", '"'),
        ("\u201d", '"'),
        ("\u2018", "'"),
        ("\u2019", "'"),
        ("\u2014", ", "),
        ("\u2013", "-"),
        ("\u2026", "..."),
    ):
        text = text.replace(old, new)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n\s*", "\n\n", text).strip()


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def most_repeated(words: list[str], n: int = 4) -> int:
    """How often the most frequent n-gram of words occurs."""
    grams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    return max(grams.values(), default=0)


def distinct(words: list[str], n: int) -> float:
    """Distinct n-grams over all n-grams (Li et al., 2016); 1 for a text shorter than n."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def loops(text: str) -> bool:
    """Some 4-gram of words occurs four times or more."""
    return most_repeated(words_of(text)) >= 4


def ends_properly(text: str) -> bool:
    """The last sentence is closed and no quotation stays open in the last paragraph."""
    text = text.rstrip()
    return text.endswith((".", "!", "?", '."', '!"', '?"')) and text.split("\n")[-1].count('"') % 2 == 0


def why_not(text: str, name: str, ended: bool) -> str:
    """The first reason to drop a cleaned story, or an empty string."""
    words = words_of(text)
    if not ended or not ends_properly(text):
        return "unfinished"
    if not 55 <= len(words) <= 330:
        return "length"
    if BANNED.search(text) or LIST_LINE.search(text) or not text.isascii():
        return "markup or talk about the task"
    if name not in text:
        return "hero missing"
    if most_repeated(words) >= 3 or distinct(words, 3) < 0.85 or distinct(words, 1) < 0.33:
        return "repetition"
    sentences = [s for s in SENTENCE_END.split(text) if s]
    if max(Counter(s.strip().lower() for s in sentences if len(s.split()) > 3).values(), default=0) > 1:
        return "repeated sentence"
    if len(words) / len(sentences) > 20 or sum(map(len, words)) / len(words) > 4.7:
        return "too hard"
    if any(len(p.split()) > 130 for p in text.split("\n\n")):
        return "long paragraph"
    if text.count('"') % 2:
        return "open quotation"
    return ""
