"""Mojo from cells: signatures, compiler messages, and a process that can break without breaking this one."""

import numpy as np
import pytest

from workbook.compare import CheckFailed, compare
from workbook.mojo_build import MojoError, build, imported
from workbook.mojo_run import MojoCrash, MojoFunction, from_bfloat16, functions, to_bfloat16
from workbook.mojo_signature import signatures

CELL = """
from kernels.common import Ptr
from std.os import abort


def twice[dtype: DType](y: Ptr[dtype], x: Ptr[dtype], n: Int):
    for i in range(n):
        y[unsafe_offset=i] = x[unsafe_offset=i] * 2


def write(y: Ptr[DType.float32], at: Int):
    y[unsafe_offset=at] = 3


def endless(y: Ptr[DType.float32]):
    while y[unsafe_offset=0] < 1:
        y[unsafe_offset=0] *= 0.5


def half(n: Int) raises -> Int:
    print("asked for", n)
    if n % 2 == 1:
        raise Error("n is ", n, " but must be even")
    return n // 2


def stop():
    abort("stopped on purpose")


def mean(x: Ptr[DType.bfloat16], n: Int) -> Float32:
    var total = Float32(0)
    for i in range(n):
        total += x[unsafe_offset=i].cast[DType.float32]()
    return total / Float32(n)


def helper[dtype: DType, //](x: Ptr[dtype]) -> SIMD[dtype, 4]:
    return x.unsafe_load[width=4](0)
"""


@pytest.fixture(scope="module")
def cell() -> dict[str, MojoFunction]:
    """The functions of CELL, compiled."""
    return {name: function for (_, name), function in functions(build({"cell": CELL})).items()}


def test_signatures_are_read() -> None:
    found = {signature.name: signature for signature in signatures(CELL, {"dtype": "DType.bfloat16"})}
    assert list(found) == ["twice", "write", "endless", "half", "stop", "mean"]
    assert found["twice"].arguments == "[DType.bfloat16]"
    assert [p.dtype for p in found["twice"].parameters] == ["bfloat16", "bfloat16", None]
    assert str(found["half"]) == "half(n: Int) -> Int"


def test_a_function_writes_into_arrays(cell: dict[str, MojoFunction]) -> None:
    x = np.arange(7, dtype=np.float32)
    y = np.zeros_like(x)
    assert cell["twice"](y, x, 7) is None
    assert np.array_equal(y, 2 * x)
    assert cell["mean"](to_bfloat16(x), 7) == 3.0
    assert cell["twice"].time(y, x, 7, repeats=3) > 0


def test_what_it_prints_and_raises_reaches_the_notebook(
    cell: dict[str, MojoFunction], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cell["half"](6) == 3
    with pytest.raises(RuntimeError, match="half raised: n is 7 but must be even"):
        cell["half"](7)
    assert capsys.readouterr().out == "asked for 6\nasked for 7\n"


@pytest.mark.parametrize(("at", "said"), [(5, "element 5, past its end"), (-1, "element -1, before its start")])
def test_writing_outside_is_noticed(cell: dict[str, MojoFunction], at: int, said: str) -> None:
    with pytest.raises(MojoCrash, match=f"outside `y`: at {said}"):
        cell["write"](np.zeros(5, np.float32), at)


def test_a_crash_and_an_endless_loop_stay_in_their_process(cell: dict[str, MojoFunction]) -> None:
    with pytest.raises(MojoCrash, match="SIGSEGV"):
        cell["write"](np.zeros(5, np.float32), 1 << 40)
    with pytest.raises(MojoCrash, match="stopped on purpose"):
        cell["stop"]()
    with pytest.raises(MojoCrash, match=r"longer than 0\.5 s"):
        cell["endless"](np.zeros(1, np.float32), seconds=0.5)
    assert cell["half"](4) == 2, "the next call starts a new process"


def test_reading_outside_gives_nan_and_is_not_mistaken_for_a_write(cell: dict[str, MojoFunction]) -> None:
    x, y = np.ones(3, np.float32), np.ones(8, np.float32)
    cell["twice"](y, x, 8)
    assert np.array_equal(np.isnan(y), [False] * 3 + [True] * 5)


def test_nan_from_one_guard_zone_written_to_another_is_noticed(cell: dict[str, MojoFunction]) -> None:
    with pytest.raises(MojoCrash, match="outside `y`: at element 3"):
        cell["twice"](np.ones(3, np.float32), np.ones(3, np.float32), 8)


def test_wrong_arguments_are_refused(cell: dict[str, MojoFunction]) -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="`y` wants a contiguous array of float32, not a float64 array"):
        cell["twice"](np.ones(3), x, 3)
    with pytest.raises(TypeError, match="takes 3 arguments, not 2"):
        cell["twice"](x, x)


def test_compiler_messages_point_at_the_cell() -> None:
    with pytest.raises(MojoError) as error:
        build({"cell": CELL.replace("raise Error", "raise Mistake")})
    assert "line 23: error: use of unknown declaration 'Mistake'" in str(error.value)
    assert '        raise Mistake("n is ", n, " but must be even")\n' in str(error.value)


def test_bfloat16_rounds_to_nearest_even() -> None:
    x = np.array([1.0, 1.00390625, 1.01171875, -3.3, 0.0], np.float32)  # the second and third lie halfway
    assert np.array_equal(from_bfloat16(to_bfloat16(x)), np.array([1.0, 1.0, 1.015625, -3.296875, 0.0], np.float32))


def test_a_difference_is_named() -> None:
    want = np.zeros((2, 3), np.float32)
    got = want.copy()
    got[1, 2] = 0.5
    with pytest.raises(CheckFailed, match=r"case 'odd': y\[1, 2\] is 0\.5 but should be 0 \(shape \(2, 3\), 1 of 6"):
        compare("y", got, want, 1e-5, 1e-6, "odd")
    with pytest.raises(CheckFailed, match=r"y has shape \(3, 2\) but should have \(2, 3\)"):
        compare("y", got.T, want, 1e-5, 1e-6, "odd")
    with pytest.raises(CheckFailed, match="y should be an array of shape"):
        compare("y", None, want, 1e-5, 1e-6, "odd")
    compare("y", want + 1e-7, want, 1e-5, 1e-6, "odd")


def test_a_cell_depends_on_the_kernel_files_it_imports_and_on_no_others() -> None:
    found = {path.name for path in imported({"cell": "from kernels.rms_norm import norm_row\n"})}
    assert {"rms_norm.mojo", "common.mojo"} <= found
    assert "attention_cpu.mojo" not in found
    assert imported({"cell": "from std.math import sqrt\n"}) == []
