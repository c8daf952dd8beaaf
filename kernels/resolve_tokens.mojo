"""Token ids of a step that is launched before the host knows what the step before has drawn.

    y[i] = tokens[i]               tokens[i] >= 0: an id that the host knows
    y[i] = drawn[-1 - tokens[i]]   tokens[i] <  0: the token of that row of the step before, which never left the device

                      row of drawn      0   1   2   3
    drawn                              17   4  99   8
    tokens   -3   5  -1      ->  y     99   5  17

Rows may change places between two steps, so each token names the row it comes from. A row outside `drawn` [n] gives -1,
which the embedding answers with zeros: an index is data, and data must not make a kernel read foreign memory.

No ladder: a step has a few hundred of these at most, and the launch is all it costs.
"""

from .common import Ptr


@always_inline
def resolved(token: Int32, drawn: Ptr[DType.int32], count: Int) -> Int32:
    """The token itself if it is an id, else the drawn one that it stands for.
    """
    if token >= 0:
        return token
    var row = -1 - Int(token)
    return drawn[unsafe_offset=row] if row < count else -1


def resolve_tokens_cpu(
    y: Ptr[DType.int32],
    tokens: Ptr[DType.int32],
    drawn: Ptr[DType.int32],
    rows: Int,
    count: Int,
):
    """Writes y [rows] from tokens [rows] and drawn [count]."""
    for i in range(rows):
        y[unsafe_offset=i] = resolved(tokens[unsafe_offset=i], drawn, count)
