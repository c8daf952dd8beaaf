"""Comparing arrays, and saying what differs and where."""

from typing import Any

import numpy as np


class CheckFailed(Exception):  # noqa: N818 - reads as what it says
    """A check that did not pass. The text says what differs, where, and what to look at.

    name and actual are the result that differed, when the failure is a difference of values.
    """

    def __init__(self, text: str, name: str = "", actual: Any = None) -> None:
        super().__init__(text)
        self.text = text
        self.name = name
        self.actual = actual

    def of(self, exercise: str, title: str, hint: str | None = None) -> "CheckFailed":
        """The same failure with the exercise's id and title before it, and a hint after it."""
        ending = f"\nHint: {hint}" if hint else ""
        return CheckFailed(f"{exercise} {title}: {self.text}{ending}", self.name, self.actual)

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython shows: the message alone."""
        return [f"Not yet. {self.text}"]


def compare(name: str, actual: Any, expected: Any, rtol: float, atol: float, label: str) -> None:
    """Raise CheckFailed unless actual equals expected, elementwise within atol + rtol * |expected|.

    The message names the case, the shape, the first index that differs, both values there, and how many differ.
    """
    want = np.asarray(expected)
    try:
        got = np.asarray(actual)
        got_is_number = got.dtype.kind in "biuf"
    except ValueError:
        got_is_number = False
    where = f"case '{label}'"
    if not got_is_number:
        raise CheckFailed(f"{where}: {name} should be an array of shape {want.shape}, but it is {actual!r:.80}")
    if got.shape != want.shape:
        raise CheckFailed(f"{where}: {name} has shape {got.shape} but should have {want.shape}", name, got)
    exact = want.dtype.kind in "biu"
    with np.errstate(invalid="ignore"):
        same = got == want if exact else np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if np.all(same):
        return
    wrong = np.argwhere(~np.atleast_1d(same))
    index = tuple(int(i) for i in wrong[0]) if want.ndim else ()
    at = f"[{', '.join(map(str, index))}]" if index else ""
    tolerance = "" if exact else f", tolerance {rtol:g} relative + {atol:g} absolute"
    raise CheckFailed(
        f"{where}: {name}{at} is {got[index]:.7g} but should be {want[index]:.7g} "
        f"(shape {want.shape}, {len(wrong)} of {want.size} values differ{tolerance})",
        name,
        got,
    )
