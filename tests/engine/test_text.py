"""Stop strings: for any cutting of the text into tokens, what is shown never runs past the first stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mili.text import TextStream


class Pieces:
    """A decoder whose tokens are indices into a list of pieces of text."""

    def __init__(self, pieces):
        self.pieces = pieces

    def push(self, token):
        return self.pieces[token]

    def flush(self):
        return ""


def run(pieces, stop, **options):
    stream = TextStream(Pieces(pieces), tuple(stop), **options)
    shown = []
    for token in range(len(pieces)):
        shown.append(stream.push(token))
        if stream.stopped:
            break
    if not stream.stopped:
        shown.append(stream.finish())
    return "".join(shown), stream.stopped, shown


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text("ab", max_size=4), max_size=20),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_the_shown_text_ends_before_the_first_stop_string(pieces, stop):
    whole = "".join(pieces)
    text, stopped, shown = run(pieces, stop)
    assert stopped == any(s in whole for s in stop)
    assert not any(s in text for s in stop)
    assert whole.startswith(text)
    if not stopped:
        assert text == whole
    else:
        # The end is where a stop string begins, none of which was complete a token earlier.
        rest = whole[len(text) :]
        assert any(rest.startswith(s) for s in stop)
    seen = ""
    for part in shown:
        seen += part
        assert text.startswith(seen)


def test_only_what_could_become_a_stop_string_is_held_back():
    stream = TextStream(Pieces(["ab", "c", "ab", "x"]), ("abz",))
    assert stream.push(0) == ""
    assert stream.push(1) == "abc"
    assert stream.push(2) == ""
    assert stream.push(3) == "abx"
    assert stream.finish() == ""


def test_no_decoder_no_text():
    stream = TextStream(None)
    assert stream.push(5) == ""
    assert stream.finish() == ""


@pytest.mark.parametrize(("include", "text"), [(True, "one two"), (False, "one ")])
def test_include_stop(include, text):
    assert run(["one t", "wo th", "ree"], ["two"], include_stop=include)[0] == text
