"""Every GPU kernel and every step fits the registers: nothing spills, and no `wgmma` is serialized.

ptxas says so, NVIDIA's assembler: `.ci/run` installs it, elsewhere the tests that need it are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.table import table
from tests.kernels.ptx import Ptx
from tests.kernels.registers import assemble, find_ptxas, parse

SPILLS = {
    # One thread holds a query and an output of 128 float32 each, more than a thread's 255 registers: what the next
    # step cures.
    ("sm_80", "mili_step_attention_thread_bfloat16_128"): 152,
    ("sm_90a", "mili_step_attention_thread_bfloat16_128"): 160,
    # A few values a thread, kept across the loop over the keys.
    ("sm_80", "mili_attention_prefill_bfloat16_128_8"): 72,
    ("sm_90a", "mili_attention_prefill_bfloat16_128_4"): 16,
    # Two values from before that loop, where the blocks that share an SM leave a thread no more registers: with four
    # instead of three decoding 32 requests of 2,048 tokens took 105 us instead of 115.
    ("sm_80", "mili_attention_decode_bfloat16_128_False"): 8,
    ("sm_80", "mili_attention_decode_bfloat16_128_True"): 8,
    # A few values of a row, kept across the loops over its chunks, so that two blocks share an SM: with one on each and
    # no spill 256 rows took 98 us instead of 83.
    ("sm_80", "mili_sample_draw_True"): 112,
    ("sm_80", "mili_sample_draw_False"): 64,
    ("sm_90a", "mili_sample_draw_True"): 24,
    ("sm_90a", "mili_sample_draw_False"): 36,
}
"""Bytes a thread that are known to leave the registers, by target and kernel. It may only become shorter."""

SPILLING = """\
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to register pressure
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'mili_linear_bfloat16_8_3d6d7b5b' for 'sm_90a'
ptxas info    : Function properties for mili_linear_bfloat16_8_3d6d7b5b
    24 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 24 bytes cumulative stack size, 16640 bytes smem
"""


def test_spills_and_warnings_are_seen() -> None:
    found = parse(SPILLING)
    assert (found.kernel, found.registers, found.shared, found.spilled) == ("mili_linear_bfloat16_8", 128, 16640, 24)
    assert len(found.complaints) == 1
    clean = parse(SPILLING.replace("24 bytes", "0 bytes").replace("16 bytes", "0 bytes").replace("20 bytes", "0 bytes"))
    assert clean.spilled == 0


@pytest.mark.ptxas
def test_kernels_fit_the_registers(ptx: Ptx, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ptxas = find_ptxas()
    assert ptxas is not None
    assert len(ptx.files) > 40
    found = [assemble(ptxas, ptx.target, text, tmp_path / file) for file, text in sorted(ptx.files.items())]
    rows = [(f.kernel.removeprefix("mili_"), str(f.registers), str(f.shared), str(f.spilled)) for f in found]
    with capsys.disabled():
        print(f"\n{table((ptx.target, 'registers', 'shared bytes', 'spilled bytes'), rows)}")
    known = {kernel: most for (target, kernel), most in SPILLS.items() if target == ptx.target}
    assert not {f.kernel: f.spilled for f in found if f.spilled > known.get(f.kernel, 0)}, "kernels that spill"
    assert not known.keys() - {f.kernel for f in found if f.spilled}, "these no longer spill: take them out of SPILLS"
    assert not [f"{f.kernel}: {line}" for f in found for line in f.complaints]
