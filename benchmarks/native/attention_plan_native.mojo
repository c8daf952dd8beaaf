"""The shares of decode attention (kernels/attention_decode_plan_gpu.mojo) as a Python extension, for their test."""

from kernels.attention_decode_plan_gpu import MOST, Shares
from std.memory import Pointer
from std.os import abort
from std.python import PythonObject
from std.python.bindings import PythonModuleBuilder

comptime BLOCKS = 8
comptime Array = Pointer[Int32, MutAnyOrigin]


def shares_of(units: Array, items: Int) -> Shares[BLOCKS]:
    """The shares of a line of items of so many units."""
    var all = Int32(0)
    for i in range(items):
        all += units[unsafe_offset=i]
    return Shares[BLOCKS](all)


def begins(
    units: PythonObject, items: PythonObject, out_: PythonObject
) raises -> PythonObject:
    """Writes where each share begins into int32 at `out_` and returns how many there are, for items of so many units
    (int32 [items] at `units`).
    """
    var lengths = Array(unsafe_from_address=Int(py=units))
    var result = Array(unsafe_from_address=Int(py=out_))
    var shares = shares_of(lengths, Int(py=items))
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
    """Writes the last share of each item, as `begins`; returns the units of all.
    """
    var lengths = Array(unsafe_from_address=Int(py=units))
    var result = Array(unsafe_from_address=Int(py=out_))
    var shares = shares_of(lengths, Int(py=items))
    var before = Int32(0)
    for i in range(Int(py=items)):
        result[unsafe_offset=i] = shares.last_of(
            before, lengths[unsafe_offset=i]
        )
        before += lengths[unsafe_offset=i]
    return PythonObject(Int(shares.all))


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
