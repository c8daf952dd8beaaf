"""The shares of decode attention (kernels/attention_decode_plan_gpu.mojo) as a Python extension, for their test."""

from kernels.attention_decode_plan_gpu import MOST, Shares
from std.memory import Pointer
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime BLOCKS = 8
comptime Array = Pointer[Int32, MutAnyOrigin]


def begins(
    units: PythonObject, items: PythonObject, out_: PythonObject
) raises -> PythonObject:
    """Writes where each share begins into int32 at `out_` and returns how many there are, for items of so many units
    (int32 [items] at `units`).
    """
    var lengths = Array(unsafe_from_address=Int(py=units))
    var result = Array(unsafe_from_address=Int(py=out_))
    var n = Int(py=items)
    var all = Int32(0)
    for i in range(n):
        all += lengths[unsafe_offset=i]
    var shares = Shares[BLOCKS](all)
    var item = 0
    var before = Int32(0)
    for s in range(Int(shares.count)):
        var unit = shares.begin(Int32(s))
        while before + lengths[unsafe_offset=item] <= unit:
            before += lengths[unsafe_offset=item]
            item += 1
        result[unsafe_offset=s] = shares.moved(
            unit, before, lengths[unsafe_offset=item]
        )
    return PythonObject(Int(shares.count))


def lasts(
    units: PythonObject, items: PythonObject, out_: PythonObject
) raises -> PythonObject:
    """Writes the last share of each item, as `begins`."""
    var lengths = Array(unsafe_from_address=Int(py=units))
    var result = Array(unsafe_from_address=Int(py=out_))
    var n = Int(py=items)
    var all = Int32(0)
    for i in range(n):
        all += lengths[unsafe_offset=i]
    var shares = Shares[BLOCKS](all)
    var before = Int32(0)
    for i in range(n):
        result[unsafe_offset=i] = shares.last_of(
            before, lengths[unsafe_offset=i]
        )
        before += lengths[unsafe_offset=i]
    return PythonObject(Int(all))


def most() raises -> PythonObject:
    """The most shares that there can be."""
    return PythonObject(MOST * BLOCKS)


@export
def PyInit_attention_plan_native() abi("C") -> PythonObject:
    try:
        var m = PythonModuleBuilder("attention_plan_native")
        m.def_function[begins]("begins")
        m.def_function[lasts]("lasts")
        m.def_function[most]("most")
        return m.finalize()
    except e:
        abort(String("attention_plan_native: ", e))
