"""Solution regions: what a learner writes.

    # BEGIN SOLUTION            in a notebook cell
    # BEGIN SOLUTION 03.4       in a kernel file, where the exercise has to be named
    ...
    # END SOLUTION

Both lines stay in the learner's copy; what is between them is replaced by an instruction and an error.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

BEGIN = re.compile(r"^(?P<indent>[ \t]*)# BEGIN SOLUTION(?: (?P<exercise>\d\d\.\d+))?[ \t]*$")
END = re.compile(r"^[ \t]*# END SOLUTION[ \t]*$")
NOT_WRITTEN = "is not written yet"


class RegionError(Exception):
    """The BEGIN and END lines of a source do not pair up."""


@dataclass(frozen=True)
class Region:
    """Lines [first, last) of a source, between the two markers; `exercise` is None in a notebook cell."""

    first: int
    last: int
    indent: str
    exercise: str | None


def regions(text: str) -> list[Region]:
    """The solution regions of a source, in order. Raises RegionError when the markers do not pair up."""
    found: list[Region] = []
    opened: tuple[int, re.Match[str]] | None = None
    for number, line in enumerate(text.split("\n")):
        begin = BEGIN.match(line)
        if begin is not None:
            if opened is not None:
                raise RegionError(f"line {number + 1}: BEGIN SOLUTION inside a solution begun in line {opened[0]}")
            opened = (number + 1, begin)
        elif END.match(line):
            if opened is None:
                raise RegionError(f"line {number + 1}: END SOLUTION without BEGIN SOLUTION")
            found.append(Region(opened[0], number, opened[1]["indent"], opened[1]["exercise"]))
            opened = None
    if opened is not None:
        raise RegionError(f"line {opened[0]}: BEGIN SOLUTION without END SOLUTION")
    return found


def placeholder(language: str, exercise: str, lines: int, indent: str) -> list[str]:
    """What stands in a region before the learner writes it: an instruction and an error, in Python or Mojo."""
    message = f'"exercise {exercise} {NOT_WRITTEN}"'
    todo = f"{indent}# Your code here: about {lines} line{'s' if lines != 1 else ''}."
    if language == "python":
        return [todo, f"{indent}raise NotImplementedError({message})"]
    # abort compiles in functions that do not raise, and in those that return a value. An import has to stand at the
    # function's own level: so does a region in Mojo.
    return [todo, f"{indent}from std.os import abort", "", f"{indent}abort({message})"]


def replace(text: str, bodies: Iterator[list[str]], only: str | None = None) -> str:
    """Replace the regions of a source by the given bodies, one after another.

    only: replace the regions of this exercise and leave the others (kernel files hold several exercises).
    """
    lines = text.split("\n")
    out: list[str] = []
    position = 0
    for region in regions(text):
        if only is not None and region.exercise != only:
            continue
        out += lines[position : region.first] + next(bodies)
        position = region.last
    return "\n".join(out + lines[position:])


def starter(text: str, language: str, exercise: str, lines: int, only: str | None = None) -> str:
    """The source as a learner gets it. The expected lines are shared out over the regions of the exercise."""
    chosen = [r for r in regions(text) if only is None or r.exercise == only]
    share = max(1, round(lines / max(1, len(chosen))))
    return replace(text, iter([placeholder(language, exercise, share, r.indent) for r in chosen]), only)


def bodies(text: str, only: str | None = None) -> list[list[str]]:
    """The lines of each region, without the indentation of its markers."""
    lines = text.split("\n")
    return [
        [line.removeprefix(region.indent) for line in lines[region.first : region.last]]
        for region in regions(text)
        if only is None or region.exercise == only
    ]


def put(text: str, contents: list[list[str]], only: str | None = None) -> str:
    """Write contents (as `bodies` gives them) into the regions of a source, indented as its markers are.

    Raises RegionError when the number of regions differs.
    """
    chosen = [r for r in regions(text) if only is None or r.exercise == only]
    if len(chosen) != len(contents):
        raise RegionError(f"{len(contents)} regions to write but {len(chosen)} places for them")
    indented = [
        [region.indent + line if line else line for line in content]
        for region, content in zip(chosen, contents, strict=True)
    ]
    return replace(text, iter(indented), only)


def outside(text: str) -> str:
    """The source with every region emptied: what a learner's copy must share with its source."""
    return replace(text, iter([[] for _ in regions(text)]))
