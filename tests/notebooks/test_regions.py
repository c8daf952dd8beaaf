"""Solution regions are found, emptied and filled."""

import pytest

from workbook import regions

SOURCE = """def f(x):
    # BEGIN SOLUTION
    y = x + 1

    return y
    # END SOLUTION
"""

KERNEL = """def a():
    # BEGIN SOLUTION 03.4
    one()
    # END SOLUTION

def b():
    for i in range(3):
        # BEGIN SOLUTION 03.5
        two(i)
        # END SOLUTION
"""


def test_the_starter_says_what_to_do_and_fails() -> None:
    text = regions.starter(SOURCE, "python", "01.2", 2)
    assert "y = x + 1" not in text
    assert "    # Your code here: about 2 lines." in text
    namespace: dict[str, object] = {}
    exec(text, namespace)
    with pytest.raises(NotImplementedError, match=r"exercise 01\.2 is not written yet"):
        namespace["f"](1)  # type: ignore[operator]


def test_only_the_named_exercise_is_emptied() -> None:
    text = regions.starter(KERNEL, "mojo", "03.5", 1, only="03.5")
    assert "one()" in text
    assert "two(i)" not in text
    assert '        abort("exercise 03.5 is not written yet")' in text


def test_bodies_and_put_are_inverse() -> None:
    body = regions.bodies(KERNEL, only="03.5")
    assert body == [["two(i)"]]
    emptied = regions.starter(KERNEL, "mojo", "03.5", 1, only="03.5")
    assert regions.put(emptied, body, only="03.5") == KERNEL
    assert regions.put(regions.starter(SOURCE, "python", "01.2", 2), regions.bodies(SOURCE)) == SOURCE


def test_outside_is_the_same_for_source_and_starter() -> None:
    assert regions.outside(SOURCE) == regions.outside(regions.starter(SOURCE, "python", "01.2", 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# BEGIN SOLUTION\n", "line 1: BEGIN SOLUTION without END"),
        ("# END SOLUTION\n", "line 1: END SOLUTION without BEGIN"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n", "line 2: BEGIN SOLUTION inside"),
    ],
)
def test_markers_must_pair_up(text: str, message: str) -> None:
    with pytest.raises(regions.RegionError, match=message):
        regions.regions(text)


def test_put_refuses_another_number_of_regions() -> None:
    with pytest.raises(regions.RegionError, match="0 regions to write but 1 places"):
        regions.put(SOURCE, [])
