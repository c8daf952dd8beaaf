"""A small radix tree for notebook 11: its nodes, what a test asks of it, and its picture.

Tokens may be any values that can be compared, words for instance; the engine's tree is `mili/radix_cache.py`.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Any

import matplotlib as mpl

from workbook import figures


class Node:
    """An edge and the node it leads to.

    key: the edge's tokens, page_size for each of its `pages`. children: nodes by the first page of their key, a tuple.
    locks: running requests that use this node or one below it. used: when it was last used, a growing number.
    """

    def __init__(self, key: Sequence[Any] = (), pages: Sequence[int] = (), parent: "Node | None" = None) -> None:
        self.key = list(key)
        self.pages = list(pages)
        self.parent = parent
        self.children: dict[tuple[Any, ...], Node] = {}
        self.locks = 0
        self.used = 0

    def __repr__(self) -> str:
        return f"<Node key={self.key} pages={self.pages} locks={self.locks} children={len(self.children)}>"


def common_pages(edge: Sequence[Any], tokens: Sequence[Any], page_size: int) -> int:
    """How many whole pages the two sequences have in common at their beginning."""
    same = 0
    while same < min(len(edge), len(tokens)) and edge[same] == tokens[same]:
        same += 1
    return same // page_size


def example() -> Node:
    """Three prompts with pages of two words: two share a beginning."""
    root = Node()
    for parent, words, pages in (
        (root, "You are a kind storyteller .", [4, 2, 7]),
        (root, "Once upon a time", [3, 9]),
        (None, "Tell of a fox", [0, 6]),
        (None, "Sing of a bee", [8, 1]),
    ):
        above = parent or next(iter(root.children.values()))
        child = Node(words.split(), pages, above)
        above.children[tuple(child.key[:2])] = child
    return root


def nodes(node: Node) -> Iterator[Node]:
    """All nodes below `node`, parents first."""
    for child in node.children.values():
        yield child
        yield from nodes(child)


def stored(node: Node, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Every leaf as (its tokens from the root, its pages from the root)."""
    for child in node.children.values():
        yield from _below(child, prefix, ())


def _below(
    node: Node, tokens: tuple[Any, ...], pages: tuple[int, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[int, ...]]]:
    tokens, pages = tokens + tuple(node.key), pages + tuple(node.pages)
    if not node.children:
        yield tokens, pages
    for child in node.children.values():
        yield from _below(child, tokens, pages)


def fault(root: Node, page_size: int) -> str | None:
    """What is wrong with a tree's links and sizes, in a sentence; None if nothing is."""
    for node in [root, *nodes(root)]:
        if len(node.key) != page_size * len(node.pages):
            return f"an edge has {len(node.key)} tokens for {len(node.pages)} pages of {page_size}: {node}"
        if node is not root and not node.pages:
            return f"an edge has no pages: {node}"
        for key, child in node.children.items():
            if child.parent is not node:
                return f"the parent of {child} is not the node that has it as a child"
            if key != tuple(child.key[:page_size]):
                return f"a child is filed under {key}, but its first page is {tuple(child.key[:page_size])}"
    return None


def draw(axes: Any, root: Node, page_size: int, fresh: Container[int] = (), width: float = 1.9) -> None:
    """Draw a tree from left to right, a box a page (its tokens and its number), a dot a node.

    fresh: pages shown in green. Locked nodes are orange, all others blue.
    """
    rows = _draw_children(axes, root, page_size, fresh, 0, 0.0, width)
    deepest = max((len(pages) for _, pages in stored(root)), default=1)
    axes.text(-0.15, 0.5, "root", ha="right", va="center", fontsize=8)
    axes.set_xlim(-1, width * deepest + 0.2)
    axes.set_ylim(max(rows, 1) + 0.1, -0.2)
    axes.axis("off")


def _draw_children(
    axes: Any, node: Node, page_size: int, fresh: Container[int], row: int, left: float, width: float
) -> int:
    """Draw the children of a node that ends at x = left, the first in `row`; returns the next free row."""
    top = row
    for child in node.children.values():
        if row > top:
            axes.plot(
                [left - 0.04, left - 0.04, left + 0.08], [top + 0.5, row + 0.5, row + 0.5], color=figures.GREY, lw=1
            )
        for number, page in enumerate(child.pages):
            color = figures.GREEN if page in fresh else figures.ORANGE if child.locks else figures.BLUE
            last = number == len(child.pages) - 1
            box = mpl.patches.Rectangle(
                (left + 0.08 + width * number, row + 0.1), width - (0.16 if last else 0.08), 0.8, facecolor=color, lw=0
            )
            axes.add_patch(box)
            words = " ".join(map(str, child.key[number * page_size : (number + 1) * page_size]))
            axes.text(
                left + width * (number + 0.5), row + 0.5, f"{words}\npage {page}", ha="center", va="center", fontsize=7
            )
        axes.plot(left + width * len(child.pages) - 0.04, row + 0.5, "o", color=figures.INK, ms=3, clip_on=False)
        row = max(_draw_children(axes, child, page_size, fresh, row, left + width * len(child.pages), width), row + 1)
    return row
