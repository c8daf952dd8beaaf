"""Exercises of notebook 11, the radix cache."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from workbook import prefix_tree
from workbook.compare import CheckFailed
from workbook.exercise import Case, Exercise, Mistake
from workbook.prefix_tree import Node, nodes, stored

CONTEXT = {"Node": Node, "common_pages": prefix_tree.common_pages}


def common_cases() -> Iterator[Case]:
    for label, edge, tokens, size, count in (
        ("they part in the second page", [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 9, 7, 8, 3], 4, 1),
        ("the edge is shorter", [7, 7, 7, 7], [7, 7, 7, 7, 7, 7], 2, 2),
        ("the tokens end within a page", [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5], 3, 1),
        ("the first token differs", [4, 2, 3], [5, 2, 3], 1, 0),
        ("equal", [3, 1, 4, 1], [3, 1, 4, 1], 2, 2),
        ("no tokens", [3, 1], [], 2, 0),
    ):
        yield Case(label, {"edge": edge, "tokens": tokens, "page_size": size}, {"pages": count})


def child(parent: Node, key: str, pages: list[int], size: int) -> Node:
    """Hang a node below `parent`; its tokens are the letters of `key`."""
    made = Node(key, pages, parent)
    parent.children[tuple(key[:size])] = made
    return made


def small_tree() -> Node:
    """Pages of two letters: abcdef, then gh or xyzw; and mnop beside it."""
    root = Node()
    stem = child(root, "abcdef", [4, 9, 2], 2)
    child(stem, "gh", [7], 2)
    child(stem, "xyzw", [1, 5], 2)
    child(root, "mnop", [0, 3], 2)
    return root


def judge_match(match: Any) -> int:
    """Examine match(root, tokens, page_size): on a tree drawn by hand, then on random ones against a dictionary."""
    cases: tuple[tuple[str, list[int]], ...] = (
        ("abcdefgh", [4, 9, 2, 7]),
        ("abcdefxyzw", [4, 9, 2, 1, 5]),
        ("abcdefxyqq", [4, 9, 2, 1]),
        ("abcdqq", [4, 9]),
        ("abcq", [4]),
        ("abgh", [4]),
        ("abcdefghmnop", [4, 9, 2, 7]),
        ("mnopabcd", [0, 3]),
        ("xyzw", []),
        ("aq", []),
        ("a", []),
        ("", []),
    )
    root = small_tree()
    before = sorted(stored(root))
    for text, wanted in cases:
        same(
            f"the pages of {text!r} in the tree abcdef(gh, xyzw), mnop with pages of two letters",
            match(root, list(text), 2),
            wanted,
        )
    unchanged = sorted(stored(root)) == before and prefix_tree.fault(root, 2) is None
    if not unchanged:
        raise CheckFailed("match changed the tree: it only reads")
    generator = np.random.default_rng(11)
    for size in (1, 3):
        tree, known = random_tree(generator, size)
        for _ in range(60):
            tokens = generator.integers(0, 2, generator.integers(0, 8 * size)).tolist()
            same(f"the pages of {tokens}, pages of {size}", match(tree, tokens, size), looked_up(known, tokens, size))
    return len(cases) + 120


def same(what: str, actual: Any, wanted: list[int]) -> None:
    """Raise CheckFailed unless `actual` holds the wanted numbers in order."""
    if not isinstance(actual, (list, tuple)) or [int(page) for page in actual] != wanted:
        raise CheckFailed(f"{what}: your code gives {actual!r} but should give {wanted}")


Known = dict[tuple[Any, ...], int]  # the page at the end of each prefix that is a whole number of pages


def looked_up(known: Known, tokens: list[Any], size: int) -> list[int]:
    """The pages of the longest known prefix."""
    found = []
    for end in range(size, len(tokens) + 1, size):
        if tuple(tokens[:end]) not in known:
            break
        found.append(known[tuple(tokens[:end])])
    return found


def random_tree(generator: np.random.Generator, size: int) -> tuple[Node, Known]:
    """A tree of random sequences of two tokens, one node a page, with runs of only children joined into edges."""
    root, known = Node(), Known()
    number = 0
    for _ in range(12):
        node = root
        tokens = generator.integers(0, 2, size * generator.integers(1, 6)).tolist()
        for start in range(0, len(tokens), size):
            page = tuple(tokens[start : start + size])
            if page not in node.children:
                child(node, page, [number], size)  # type: ignore[arg-type]
                known[tuple(tokens[: start + size])] = number
                number += 1
            node = node.children[page]
    for node in list(nodes(root)):
        while len(node.children) == 1:
            (below,) = node.children.values()
            node.key, node.pages, node.children = node.key + below.key, node.pages + below.pages, below.children
            for grandchild in node.children.values():
                grandchild.parent = node
    return root, known


def judge_insert(insert: Any) -> int:
    """Examine insert(root, tokens, pages, page_size, now): step by step, then at random against a dictionary."""
    root = Node()
    steps: tuple[tuple[str, str, list[int], list[int], int], ...] = (
        ("into an empty tree", "abcdef", [4, 9, 2], [], 1),
        ("that parts after two pages, so an edge is split", "abcdxy", [11, 12, 7], [11, 12], 3),
        ("that the tree has already", "abcd", [13, 14], [13, 14], 3),
        ("that goes on where another ended", "abcdefgh", [15, 16, 17, 8], [15, 16, 17], 4),
        ("that has nothing in common", "mnop", [1, 0], [], 5),
        ("that parts in the middle of a page", "aqcd", [3, 5], [], 6),
    )
    known: Known = {}
    for now, (what, text, pages, unused, count) in enumerate(steps, start=1):
        step(insert, root, known, list(text), pages, 2, now, f"insert({text!r}, {pages}) {what}", unused)
        found = sum(1 for _ in nodes(root))
        if found != count:
            raise CheckFailed(f"after insert({text!r}) {what} the tree should have {count} nodes; it has {found}")
    for node in nodes(root):
        if tuple(node.key[:2]) == ("a", "b") and node.used != 4:
            raise CheckFailed(f"the last insertion through 'abcd' was number 4, but its node says used = {node.used}")
    generator = np.random.default_rng(12)
    for size in (1, 2, 3):
        root, known = Node(), {}
        for now in range(1, 41):
            tokens = generator.integers(0, 2, size * generator.integers(1, 7)).tolist()
            pages = list(range(100 * now, 100 * now + len(tokens) // size))
            kept = pages[: len(looked_up(known, tokens, size))]
            step(insert, root, known, tokens, pages, size, now, f"insert({tokens}, {pages}), pages of {size}", kept)
    split_keeps_locks(insert)
    return len(steps) + 121


def step(
    insert: Any,
    root: Node,
    known: Known,
    tokens: list[Any],
    pages: list[int],
    size: int,
    now: int,
    what: str,
    unused: list[int],
) -> None:
    """One insertion, and everything that must hold after it."""
    same(f"{what}: the pages that the tree did not take", insert(root, list(tokens), list(pages), size, now), unused)
    for number, page in enumerate(pages):
        known.setdefault(tuple(tokens[: (number + 1) * size]), page)
    wrong = prefix_tree.fault(root, size)
    if wrong is not None:
        raise CheckFailed(f"after {what}: {wrong}")
    held: Known = {}
    for prefix, numbers in stored(root):
        held |= {prefix[: (n + 1) * size]: page for n, page in enumerate(numbers)}
    for prefix in known.keys() - held.keys():
        raise CheckFailed(f"after {what}: the tree has lost {list(prefix)}, page {known[prefix]}")
    for prefix, page in held.items():
        if known.get(prefix) != page:
            raise CheckFailed(f"after {what}: {list(prefix)} ends in page {page} but should in {known.get(prefix)}")


def split_keeps_locks(insert: Any) -> None:
    """A running request that holds a node must hold both halves after a split."""
    root = Node()
    insert(root, list("abcdef"), [0, 1, 2], 2, 1)
    (node,) = root.children.values()
    node.locks = 2
    insert(root, list("abxy"), [3, 4], 2, 2)
    (upper,) = root.children.values()
    if upper.locks != 2 or node.locks != 2 or node.parent is not upper:
        raise CheckFailed(
            "a node with two locks was split: the upper part should be a new node with two locks, and the node that "
            f"requests know should stay the lower part; there are {upper.locks} above and {node.locks} below"
        )
    if any(below.locks for below in upper.children.values() if below is not node):
        raise CheckFailed("the new branch is locked, but nobody has locked it")


def judge_evict(evict: Any) -> int:
    """Examine evict(root, count, page_size) on trees with known ages and locks."""
    root = small_tree()
    by_key = {"".join(node.key): node for node in nodes(root)}
    for key, used in (("abcdef", 9), ("gh", 4), ("xyzw", 9), ("mnop", 6)):
        by_key[key].used = used
    same("evict(1): the least recently used leaf is gh, page 7", evict(root, 1, 2), [7])
    same("evict(1): now mnop is the oldest; its last page goes", evict(root, 1, 2), [3])
    whole(root, "mn")
    same("evict(3): the rest of mnop, then xyzw from its end", evict(root, 3, 2), [0, 5, 1])
    same("evict(1): abcdef has become a leaf", evict(root, 1, 2), [2])
    same("evict(10): what is left, and no more", evict(root, 10, 2), [9, 4])
    if root.children:
        raise CheckFailed(f"everything has been evicted, but the root still has children: {root.children}")
    root = small_tree()
    by_key = {"".join(node.key): node for node in nodes(root)}
    for node, used in ((by_key["gh"], 1), (by_key["mnop"], 2), (by_key["xyzw"], 3), (by_key["abcdef"], 0)):
        node.used = used
    for key in ("gh", "abcdef"):
        by_key[key].locks = 1
    same("evict(9) while abcdef and gh are locked", evict(root, 9, 2), [3, 0, 5, 1])
    by_key["gh"].locks = by_key["abcdef"].locks = 0
    same("evict(2) after they were unlocked", evict(root, 2, 2), [7, 2])
    same("evict(0)", evict(root, 0, 2), [])
    return 8


def whole(root: Node, key: str) -> None:
    """Raise CheckFailed unless a node has this key and as many pages as belong to it."""
    wrong = prefix_tree.fault(root, 2)
    if wrong is not None:
        raise CheckFailed(f"after a page of mnop was evicted: {wrong}")
    if key not in {"".join(node.key) for node in nodes(root)}:
        raise CheckFailed(f"after a page of mnop was evicted there should be an edge {key!r}")


EXERCISES = [
    Exercise(
        id="11.1",
        title="pages in common",
        kind="python",
        function="common_pages",
        lines=4,
        cases=common_cases,
        mistakes=[
            Mistake("counts tokens", "the result is in whole pages.", [("same // page_size", "same")]),
            Mistake(
                "rounds up",
                "a page counts only when all of it agrees.",
                [("same // page_size", "-(-same // page_size)")],
            ),
            Mistake(
                "goes on after a difference",
                "a prefix ends at the first difference, also when later tokens agree.",
                [
                    (
                        "while same < min(len(edge), len(tokens)) and edge[same] == tokens[same]:\n        same += 1",
                        "same = sum(a == b for a, b in zip(edge, tokens, strict=False))",
                    )
                ],
            ),
        ],
    ),
    Exercise(
        id="11.2",
        title="match",
        kind="python",
        function="match",
        lines=10,
        judge=judge_match,
        context=CONTEXT,
        mistakes=[
            Mistake(
                "takes the whole edge",
                "only the pages of the edge that agree belong to the prefix.",
                [("child.pages[:count]", "child.pages")],
            ),
            Mistake(
                "goes on after half an edge",
                "when the tokens leave an edge before its end, nothing below it matches.",
                [("if count < len(child.pages):", "if count == 0:")],
            ),
            Mistake(
                "looks up too early a page",
                "the next child is filed under the tokens that follow what has matched.",
                [("tokens = tokens[count * page_size :]", "tokens = tokens[page_size:]")],
            ),
        ],
    ),
    Exercise(
        id="11.3",
        title="insert, with a split",
        kind="python",
        function="insert",
        lines=27,
        judge=judge_insert,
        context=CONTEXT,
        mistakes=[
            Mistake(
                "splits off the lower half without its page number",
                "each half keeps the pages that belong to its tokens.",
                [("node.pages[:count], node.parent", "node.pages[count:], node.parent")],
            ),
            Mistake(
                "forgets the locks",
                "whoever uses the lower part uses the upper part too.",
                [("upper.locks, upper.used = node.locks, node.used", "upper.used = node.used")],
            ),
            Mistake(
                "leaves the old child in place",
                "the upper part has to replace the node among its parent's children.",
                [("node.parent.children[tuple(node.key[:page_size])] = upper\n", "pass\n")],
            ),
            Mistake(
                "takes pages the tree has",
                "where the tree has a page for the same tokens, it keeps its own.",
                [("Node(tokens[done * page_size :], pages[done:], node)", "Node(tokens, pages, node)")],
            ),
            Mistake("forgets when", "every node on the path is in use now.", [("        node.used = now\n", "")]),
        ],
    ),
    Exercise(
        id="11.4",
        title="evict",
        kind="python",
        function="evict",
        lines=13,
        judge=judge_evict,
        context=CONTEXT | {"nodes": nodes},
        mistakes=[
            Mistake(
                "evicts what is in use",
                "a locked node holds keys and values that a running request reads.",
                [(" and not node.locks", "")],
            ),
            Mistake(
                "evicts inner nodes",
                "without its upper part a prefix is worthless: only leaves can go.",
                [("not node.children and ", "")],
            ),
            Mistake(
                "most recently used first",
                "the one that was used longest ago goes first.",
                [("min(leaves", "max(leaves")],
            ),
            Mistake(
                "takes the first pages of an edge",
                "a prefix without its beginning cannot be matched: take pages from the end.",
                [("leaf.pages.pop()", "leaf.pages.pop(0)")],
            ),
            Mistake(
                "leaves the tokens behind",
                "tokens and pages of an edge go together.",
                [("            del leaf.key[-page_size:]\n", "")],
            ),
        ],
    ),
]
