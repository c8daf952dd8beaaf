"""The PTX of the GPU kernels and of the steps of their ladders holds the instructions that they are built around.

The compiler writes PTX on a machine without a GPU, so this says what a learner's edit does to the machine code: a load
that is no longer 16 bytes wide, a product that left the tensor cores, an array that moved to local memory.
"""

from __future__ import annotations

import re

import pytest

from tests.kernels.ptx import Ptx

LOCAL = re.compile(r"\b(ld|st)\.local|\.local\b")
LOAD_16 = re.compile(r"ld\.global(\.\w+)*\.v4\.(b32|u32|f32)|ld\.global(\.\w+)*\.v2\.(b64|u64)")
STORE_16 = re.compile(r"st\.global(\.\w+)*\.v4\.(b32|u32|f32)|st\.global(\.\w+)*\.v2\.(b64|u64)")
SHARED_16 = re.compile(r"ld\.shared(\.\w+)*\.v4\.(b32|u32|f32)|ld\.shared(\.\w+)*\.v2\.(b64|u64)")
COPY_16 = re.compile(r"cp\.async\.cg\.shared\.global\S* \[[^]]+\], \[[^]]+\], 16")
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"


ROW_WISE = [f"rms_norm_bfloat16_8_{t}" for t in ("128", "256", "1024")] + [
    "swiglu_bfloat16_8",
    "gather_rows_bfloat16_8",
]


@pytest.mark.parametrize(
    "name",
    [
        *ROW_WISE,
        "argmax_4",
        "sample_chunks_True",
        "sample_draw_True",
        "qk_norm_rope_write",
        "linear_skinny",
        "linear_rows_bfloat16_bfloat16_8",
        "attention_decode",
        "step_rms_norm_block_bfloat16_8",
        "step_linear_warp",
        "step_linear_mma",
        "step_attention_tiled",
    ],
)
def test_memory_is_read_sixteen_bytes_at_a_time(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert LOAD_16.search(text)


@pytest.mark.parametrize("name", [*ROW_WISE, "qk_norm_rope_write", "step_attention_tiled"])
def test_memory_is_written_sixteen_bytes_at_a_time(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert STORE_16.search(text)


@pytest.mark.parametrize("name", ["step_rms_norm_thread", "step_rms_norm_block_bfloat16_1", "step_linear_naive"])
def test_the_first_steps_read_two_bytes_at_a_time(ptx: Ptx, name: str) -> None:
    """What the next step gains must not be there already."""
    for text in ptx.of(name):
        assert not LOAD_16.search(text)
        assert re.search(r"ld\.global(\.\w+)*\.(b|u)16", text)


@pytest.mark.parametrize("name", ["linear_square", "step_attention_tiled"])
def test_shared_memory_is_read_sixteen_bytes_at_a_time(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert SHARED_16.search(text)


@pytest.mark.parametrize("name", ["rms_norm", "step_rms_norm_block", "step_linear_warp", "argmax", "linear_rows"])
def test_lanes_are_summed_by_shuffles(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert len(re.findall(r"shfl\.sync", text)) >= 4


@pytest.mark.parametrize("name", ["linear_tiled", "attention_prefill"])
def test_tiles_come_by_asynchronous_copies(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert COPY_16.search(text)
        assert "ldmatrix.sync.aligned.m8n8.x4" in text


def test_the_step_before_copies_through_registers(ptx: Ptx) -> None:
    for text in ptx.of("step_linear_mma"):
        assert "cp.async" not in text
        assert "ldmatrix.sync.aligned.m8n8.x4" in text


def test_warpgroup_products_read_shared_memory_and_are_waited_for_once_a_step(ptx: Ptx) -> None:
    if ptx.target != "sm_90a":
        assert not any("linear_hopper" in file for file in ptx.files)
        return
    for text in ptx.of("linear_hopper"):
        assert len(re.findall(r"wgmma\.mma_async\.sync\.aligned\.m64n(?:128|256)k16\.f32\.bf16\.bf16", text)) == 4
        assert len(re.findall(r"wgmma\.wait_group", text)) == 2
        assert "fence.proxy.async.shared::cta" in text


def test_weights_are_streamed_by_the_copy_engine_and_asked_for_before_the_wait(ptx: Ptx) -> None:
    """Before `griddepcontrol.wait` only boxes of w are asked for: x is what the kernel before writes."""
    if ptx.target != "sm_90a":
        assert not any("linear_stream" in file for file in ptx.files)
        return
    box = "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
    for rows in (8, 16, 32, 64, 128):
        for text in ptx.of(f"linear_stream_bfloat16_bfloat16_{rows}"):
            assert len(re.findall(rf"wgmma\.mma_async\.sync\.aligned\.m64n{rows}k16\.f32\.bf16\.bf16", text)) == 4
            assert "mma.sync" not in text.replace("wgmma.mma_async.sync", "")
            assert text.index(box) < text.index("griddepcontrol.wait")
            assert "griddepcontrol.launch_dependents" in text
            # A fence of the whole GPU at each barrier of the cluster would cost more than the exchange.
            assert "barrier.cluster.arrive.release" not in text
            first = text[: text.index("griddepcontrol.wait")]
            assert len(re.findall(re.escape(box), first)) == 1  # in a loop, unrolled later by ptxas
            assert "ld.global" not in text
    for text in ptx.of("linear_stream_bfloat16_float32"):
        assert "cluster" not in text.replace("shared::cluster.global", "").replace("init.release.cluster", "")
    assert len(ptx.of("linear_stream_bfloat16_bfloat16")) == 3 * 5


@pytest.mark.parametrize(
    ("name", "scores", "values"),
    [
        # A product for 16 columns of the head (scores) or 16 of 128 keys (values), before the loop, in it and after it.
        ("attention_hopper_bfloat16_128", "m64n128k16.f32.bf16.bf16 16", "m64n128k16.f32.bf16.bf16 16"),
        ("attention_hopper_bfloat16_80", "m64n128k16.f32.bf16.bf16 10", "m64n128k16.f32.bf16.bf16 16"),
        ("attention_hopper_bfloat16_64", "m64n128k16.f32.bf16.bf16 8", "m64n64k16.f32.bf16.bf16 16"),
        ("attention_hopper_float16_128", "m64n128k16.f32.f16.f16 16", "m64n64k16.f32.f16.f16 32"),
    ],
)
def test_prompts_on_hopper_are_warpgroup_products(ptx: Ptx, name: str, scores: str, values: str) -> None:
    """Queries, keys and values come from shared memory, probabilities from registers; nothing goes through `mma`."""
    if ptx.target != "sm_90a":
        assert not any("attention_hopper" in file for file in ptx.files)
        return
    instruction = r"wgmma\.mma_async\.sync\.aligned\.(\S+)\s*\{[^}]*\},\s*"
    for text in ptx.of(name):
        for operand, expected in ((r"%rd\d+,\s*%rd\d+,", scores), (r"\{[^}]*\},\s*%rd\d+,", values)):
            found = re.findall(instruction + operand, text)
            assert {f"{shape} {found.count(shape)}" for shape in found} == {expected}
        assert len(re.findall(r"wgmma\.wait_group\.sync\.aligned 1;", text)) == 1  # the softmax runs beside O += P V
        assert "mma.sync" not in text.replace("wgmma.mma_async.sync", "")
        assert "ldmatrix" not in text


def test_a_warpgroup_of_its_own_copies_for_prompts_on_hopper(ptx: Ptx) -> None:
    """Its copies report to barriers, so that nobody waits for them; it gives registers to the others."""
    if ptx.target != "sm_90a":
        return
    for text in ptx.of("attention_hopper"):
        assert COPY_16.search(text)
        assert len(re.findall(r"cp\.async\.mbarrier\.arrive\.noinc", text)) == 3  # K 0; K and V in the loop
        assert "fence.proxy.async.shared::cta" in text
        assert len(re.findall(r"setmaxnreg\.dec", text)) == len(re.findall(r"setmaxnreg\.inc", text)) == 1
        assert STORE_16.search(text)


@pytest.mark.parametrize(
    "name", ["linear_skinny", "linear_tiled", "attention_decode_bfloat16", "attention_prefill", "step_linear_mma"]
)
def test_products_run_on_tensor_cores(ptx: Ptx, name: str) -> None:
    for text in ptx.of(name):
        assert MMA in text


def test_a_cluster_joins_what_its_blocks_decode_on_hopper(ptx: Ptx) -> None:
    """Blocks write into each other's shared memory, so that one launch does; keys come by asynchronous copies."""
    if ptx.target != "sm_90a":
        assert not any("attention_decode_cluster" in file for file in ptx.files)
        return
    for text in ptx.of("attention_decode_cluster"):
        assert COPY_16.search(text)
        assert SHARED_16.search(text)
        assert MMA in text
        assert "movmatrix.sync.aligned.m8n8.trans.b16" in text
        assert "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32" in text
        # A fence of the whole GPU at the start would cost more than the exchange.
        assert "barrier.cluster.arrive.relaxed" in text
        # Nobody writes into a block that has not begun; a block ends when it has what it waits for.
        assert text.index("barrier.cluster.arrive") < text.index("barrier.cluster.wait") < text.index("st.async")


def test_bins_are_counted_in_shared_memory_without_a_fence(ptx: Ptx) -> None:
    """Of a weight its number and its lower bits, 16 a lane, and one addition to the length of the list."""
    for text in ptx.of("sample_draw"):
        assert len(re.findall(r"(?:atom|red)\.\S*shared\S*\.add\.u32", text)) == 33
        assert "fence" not in text
        assert "membar" not in text


def test_arrays_stay_in_registers(ptx: Ptx) -> None:
    """Of every kernel, every variant and every step."""
    assert len(ptx.files) > 40
    for file, text in ptx.files.items():
        assert not LOCAL.search(text), file


@pytest.mark.parametrize(
    "name",
    [
        "rms_norm_bfloat16",
        "swiglu",
        "gather_rows",
        "qk_norm_rope_write",
        "linear_skinny",
        "attention_decode",
        "attention_join",
        "sample",
    ],
)
def test_decode_kernels_start_while_the_one_before_ends(ptx: Ptx, name: str) -> None:
    """On Hopper they wait where they need its results; older GPUs have no such instruction."""
    for text in ptx.of(name):
        for instruction in ("griddepcontrol.wait", "griddepcontrol.launch_dependents"):
            assert (instruction in text) == (ptx.target == "sm_90a")


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [  # loads of 16 bytes: weights, then the row (fused: and the residual); angles and weights, then a head's halves
        ("rms_norm_bfloat16_8_128_1_False", 1, 1),
        ("rms_norm_bfloat16_8_128_1_True", 1, 2),
        ("rms_norm_bfloat16_8_256_2_False", 2, 2),
        ("rms_norm_bfloat16_8_512_1_True", 1, 2),
        ("rms_norm_bfloat16_8_64_2_True", 2, 4),
        ("rms_norm_bfloat16_8_1024_4_False", 0, 8),  # registers are scarce
        ("qk_norm_rope_write_bfloat16_128_True", 6, 2),
        ("swiglu_bfloat16_8", 0, 2),
    ],
)
def test_only_what_never_changes_is_read_before_the_wait(ptx: Ptx, name: str, early: int, late: int) -> None:
    """What the kernel before writes is read after it; weights and angles come while that one still runs."""
    if ptx.target == "sm_90a":
        for text in ptx.of(name):
            before, after = text.split("griddepcontrol.wait")
            assert [len(LOAD_16.findall(part)) for part in (before, after)] == [early, late]
            assert "st.global" not in before


def test_pages_are_read_after_the_wait(ptx: Ptx) -> None:
    """A request may share pages that another one of the same step fills, in the kernel just before."""
    if ptx.target == "sm_90a":
        for text in ptx.of("attention_decode_cluster"):
            wait = text.index("griddepcontrol.wait")
            assert wait < text.index("cp.async")
            # Lengths and page numbers, which no kernel of the step writes, may come before it: single integers.
            assert not LOAD_16.search(text[:wait])
            assert not re.search(r"ld\.global\S*\.(b|u)16|st\.global|atom\.", text[:wait])
