"""Query/key norm, RoPE and the write into pages, step 3: one pass, a head at a time in registers, on one core.

    head: load -> norm -> rotate -> round -> store where it belongs          no copy of the heads in between

It is the job of `rope.mojo`, which does all of that for a token with 16 lanes, run by the caller alone. Step 4, all
cores, is `rope.mojo`.
"""

from ..common import Ptr
from ..fork_join import hold, run_alone
from ..rope import RopeJob


def qk_norm_rope_write[
    D: Int, norm: Bool, dtype: DType
](
    q: Ptr[dtype],
    qkv: Ptr[dtype],
    q_weight: Ptr[dtype],
    k_weight: Ptr[dtype],
    eps: Float32,
    cos_sin: Ptr[DType.float32],
    positions: Ptr[DType.int32],
    slots: Ptr[DType.int32],
    kv: Ptr[dtype],
    rows: Int,
    heads: Int,
    kv_heads: Int,
    page_size: Int,
):
    """Writes q [rows, heads, D] and the keys and values of `rows` tokens into their pages.
    """
    run_alone(
        RopeJob[D, norm, dtype](
            hold(q),
            hold(qkv),
            hold(q_weight),
            hold(k_weight),
            eps,
            hold(cos_sin),
            hold(positions),
            hold(slots),
            hold(kv),
            rows,
            heads,
            kv_heads,
            page_size,
            1,
        ),
        1,
    )
