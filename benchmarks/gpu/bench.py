"""What the timings of the GPU kernels share: the models' sizes, memory's bandwidth, and one kernel beside its peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import BF16, ROUNDS, Report, Timer
from benchmarks.gpu.kernels import Kernels


@dataclass(frozen=True)
class Model:
    """Sizes of a model, in the symbols of docs/architecture.md."""

    name: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    dim: int
    vocabulary: int

    def matrices(self) -> dict[str, tuple[int, int]]:
        """[N, K] of every product of a layer, and of the head."""
        e, i, h, kh, d = self.hidden, self.intermediate, self.heads, self.kv_heads, self.dim
        return {
            "qkv": ((h + 2 * kh) * d, e),
            "o": (e, h * d),
            "gate_up": (2 * i, e),
            "down": (e, i),
            "head": (self.vocabulary, e),
        }


MODELS = [
    Model("0.6B", 1024, 3072, 16, 8, 128, 151936),
    Model("8B", 4096, 12288, 32, 8, 128, 151936),
]


def copy_bandwidth(report: Report) -> float:
    """Bytes per second, read and written, of a copy of 1 GiB."""
    a = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    b = torch.empty_like(a)
    seconds = Timer(torch.cuda.Stream()).seconds(lambda _: b.copy_(a), 1, budget=0.1)
    report.timing(op="copy 1 GiB", us=seconds * 1e6, gbs=2 * a.numel() / seconds / 1e9)
    return float(2 * a.numel() / seconds)


@dataclass
class Bench:
    """What every timing needs."""

    kernels: Kernels
    report: Report
    mine: Timer
    peer: Timer
    bandwidth: float
    quick: bool

    def run(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Run one timing; a failure is recorded and the run goes on."""
        self.report.attempt(name, work, *args)

    def both(
        self,
        row: dict[str, object],
        ours: Callable[[int], object],
        theirs: Callable[[int], object] | dict[str, Callable[[int], object]] | None,
        copies: int,
        moved: float,
        flops: float = 0.0,
    ) -> None:
        """Time ours and PyTorch's on `copies` rotating buffer sets; record bytes and operations per second.

        They take turns, so that none has a warmer GPU. Of several ways in which PyTorch does it the fastest counts, and
        its name is recorded.
        """
        samples = {"ours": self.mine.prepare(ours, copies)}
        for name, work in (theirs if isinstance(theirs, dict) else {"eager": theirs}).items():
            sample = work and self.report.attempt(f"peer {name} of {row}", self.peer.prepare, work, copies)
            if sample:
                samples[name] = sample
        rounds = [{name: sample() for name, sample in samples.items()} for _ in range(ROUNDS)]
        times = {name: statistics.median(times[name] for times in rounds) for name in samples}
        mine = times.pop("ours")
        best = min(times, key=lambda name: times[name], default=None)
        peer = None if best is None else times[best]
        row = {**row, "peer": best}
        self.report.timing(
            **row,
            us=mine * 1e6,
            torch_us=None if peer is None else peer * 1e6,
            speedup=None if peer is None else peer / mine,
            gbs=moved / mine / 1e9,
            of_copy=moved / mine / self.bandwidth,
            tflops=flops / mine / 1e12,
        )


def empty(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    """An uninitialised tensor on the GPU."""
    return torch.empty(*shape, dtype=dtype, device="cuda")
