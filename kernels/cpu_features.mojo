"""Which matrix instructions this CPU has, asked at run time.

The compiler knows the CPU that it detected, which need not be the one that runs the code, and may know less of it than
there is: virtual machines often report a family that the compiler takes for an older one. CPUID is the authority, and
XCR0 says whether the operating system saves the wide registers. The instructions themselves are reached by inline
assembly, whatever the compiler believes.
"""

from std.ffi import _Global, external_call
from std.sys._assembly import inlined_assembly
from std.sys.info import CompilationTarget

comptime AVX512_STATE = Int32(0b1110_0000)
"""XCR0 bits of the mask registers and of both halves of the 512-bit registers."""

comptime TILE_STATE = Int32(0b110 << 16)
"""XCR0 bits of AMX: tile configuration and tile data."""

comptime SYSCALL_ARCH_PRCTL = 158
comptime ARCH_REQ_XCOMP_PERM = 0x1023
comptime XFEATURE_XTILEDATA = 18


@fieldwise_init
struct CpuFeatures(ImplicitlyCopyable, Movable):
    """What the linear kernel asks about."""

    var avx512_bf16: Bool
    var amx_bf16: Bool


@no_inline
def cpuid[register: StaticString](leaf: Int32, subleaf: Int32) -> Int32:
    """Returns one register ("eax", "ecx" or "edx") of CPUID. RBX is kept by hand: the compiler may address by it.
    """
    return inlined_assembly[
        "mov %rbx, %rsi\n cpuid\n mov %rsi, %rbx\n mov %" + register + ", %edi",
        Int32,
        constraints="={edi},{eax},{ecx},~{eax},~{ecx},~{edx},~{esi}",
        has_side_effect=True,
    ](leaf, subleaf)


@no_inline
def saved_state() -> Int32:
    """Returns XCR0: the register sets that the operating system saves."""
    return inlined_assembly[
        "xgetbv",
        Int32,
        constraints="={eax},{ecx},~{edx}",
        has_side_effect=True,
    ](Int32(0))


def detect() -> CpuFeatures:
    """Asks the CPU, and the kernel of the operating system for the use of tiles.
    """
    comptime if not CompilationTarget.is_x86():
        return CpuFeatures(False, False)
    else:
        var osxsave = (cpuid["ecx"](1, 0) >> 27) & 1 == 1
        if not osxsave or cpuid["eax"](0, 0) < 7:
            return CpuFeatures(False, False)
        var state = saved_state()
        var wide = state & AVX512_STATE == AVX512_STATE
        var dot = (
            wide
            and cpuid["eax"](7, 0) >= 1
            and (cpuid["eax"](7, 1) >> 5) & 1 == 1
        )
        var leaf7 = cpuid["edx"](7, 0)
        var tiles = (leaf7 >> 22) & 1 == 1 and (leaf7 >> 24) & 1 == 1
        tiles = tiles and state & TILE_STATE == TILE_STATE
        comptime if CompilationTarget.is_linux():
            if tiles:  # a process asks once for the right to use tile data
                # (seven arguments, as everywhere: a module declares a C function once)
                tiles = (
                    external_call["syscall", Int](
                        SYSCALL_ARCH_PRCTL,
                        ARCH_REQ_XCOMP_PERM,
                        XFEATURE_XTILEDATA,
                        0,
                        0,
                        0,
                        0,
                    )
                    == 0
                )
        else:
            tiles = False
        return CpuFeatures(dot, tiles)


comptime FEATURES = _Global["mili_cpu_features", detect]


def cpu_features() -> CpuFeatures:
    """Returns what `detect` found on the first call of this process."""
    try:
        return FEATURES.get_or_create_ptr()[]
    except:
        return detect()
