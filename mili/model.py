"""`Qwen3Model`: one MAX graph of this project's kernels that runs a ragged batch over a paged KV cache.

Prefill, a chunk of a prefill and decode are the same graph (docs/architecture.md). A layer is

    h    = add_rms_norm(x, residual)          q = qk_norm_rope_write(linear(h, qkv))     keys and values go into pages
    x    = linear(attention(q, pages), o)     h = add_rms_norm(x, residual)
    x    = linear(swiglu(linear(h, gate_up)), down)

Of the last layer only the rows whose logits are wanted go on after the attention.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU, Buffer, Device
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.graph import BufferType, BufferValue, DeviceRef, Graph, TensorType, TensorValue, Weight
from numpy.typing import NDArray

from mili import ops
from mili.batch import Batch
from mili.capture import SAMPLING_FIELDS, DecodeGraphs, Shape
from mili.config import Qwen3Config
from mili.device import DTYPES
from mili.errors import ConfigError
from mili.kernel_package import failures, kernel_package
from mili.kernel_path import kernel_path
from mili.kv_cache import PagedKVCache
from mili.packing import Tensor
from mili.rope import cos_sin_table
from mili.staging import Landed, TokenLanding
from mili.timer_slack import late_timers

_COS_SIN = "cos_sin"


@dataclass(frozen=True)
class ForwardOutput:
    """What a step gives for the L rows of `Batch.logit_rows`. Read both before the step after the next is launched, and
    the logits before the next.

    inputs: host memory that a queued copy to the device may still read.
    """

    drawn: Buffer | Landed
    logit_buffer: Buffer
    inputs: tuple[Buffer, ...] = ()

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """[L] the token drawn for each row; without sampling the likeliest, the lowest id among equals."""
        tokens: NDArray[np.int32] = self.drawn.tokens if isinstance(self.drawn, Landed) else self.drawn.to_numpy()
        return tokens

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """[L, V] fetched from the device at the first use."""
        logits: NDArray[np.float32] = self.logit_buffer.to(CPU()).to_numpy()
        return logits


class Qwen3Model:
    """A loaded model. `weights` are the tensors of `WeightLoader` (packed on the CPU).

    max_positions: longest context; at most what the configuration allows, which is also the default.
    kernels: another kernel folder (mili/kernel_path.py).
    `samples_on_device` says that `forward` takes sampling parameters; `runs_ahead`, that it only queues a step. On a
    CPU it computes it. Either way token -1 - j is the one that row j of the step before has drawn.
    Compiles at construction: seconds on a warm compile cache, else up to about a minute on two cores.
    Raises ConfigError, with the line, when a kernel does not compile.
    """

    samples_on_device = True

    def __init__(
        self,
        config: Qwen3Config,
        weights: Mapping[str, Tensor],
        *,
        device: Device,
        dtype: str,
        page_size: int = 16,
        max_positions: int | None = None,
        kernels: str | os.PathLike[str] | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self.page_size = page_size
        self.max_positions = max_positions or config.max_position_embeddings
        if self.max_positions > config.max_position_embeddings:
            raise ConfigError(
                f"a context of {max_positions} tokens is longer than the model's max_position_embeddings "
                f"{config.max_position_embeddings}."
            )
        registry = {tensor.name: _buffer(tensor) for tensor in weights.values()}
        registry[_COS_SIN] = Buffer.from_numpy(cos_sin_table(config, self.max_positions))
        shapes = {name: (buffer.dtype, buffer.shape) for name, buffer in registry.items()}
        # On the CPU the compiled model reads these very arrays, and does not keep them alive.
        self._weights = registry
        devices = [device] if device.is_host else [device, CPU()]
        with ensure_default_mlir_context():  # MAX enters it in the main thread alone, and a server loads in another
            graph = build_graph(config, shapes, DeviceRef.from_device(device), DTYPES[dtype], page_size, kernels)
            try:
                self._model: Model = InferenceSession(devices=devices).load(graph, weights_registry=registry)
            except RuntimeError as error:
                folder = kernel_path(kernels)
                if (found := failures(folder, error)) is None:
                    raise
                raise ConfigError(f"the kernels in {folder} do not compile:\n{found}") from error
        self.runs_ahead = not device.is_host
        self._graphs: DecodeGraphs | None = None
        self._landing = TokenLanding(device)
        self._drawn = Buffer.from_numpy(np.zeros(1, np.int32)).to(device)  # tokens of the last step

    def capture(
        self, cache: PagedKVCache, shapes: Sequence[Shape], on_capture: Callable[[int], object] = lambda done: None
    ) -> None:
        """Capture decode steps over `cache` (mili/capture.py); `forward` then replays steps of these shapes.

        shapes: (rows, page-table width) of each. on_capture: told how many are captured, after each.
        Raises DeviceError if the device cannot do it.
        """
        self._graphs = None
        self._graphs = DecodeGraphs(self._model, self.device, cache, shapes, on_capture)

    @property
    def captured(self) -> list[Shape]:
        """(rows, page-table width) of the decode steps that are replayed."""
        return self._graphs.shapes if self._graphs is not None else []

    def forward(self, batch: Batch, cache: PagedKVCache, sampling: NDArray[np.float32] | None = None) -> ForwardOutput:
        """Run one step; the keys and values of its tokens are written into `cache`.

        sampling: [L, 5] float32, for each wanted row what `ops.sample` draws by; None is argmax everywhere.
        """
        if self._graphs is not None and (found := self._graphs.find(batch, cache, self._drawn)) is not None:
            self._drawn, logits = self._graphs.replay(found, batch, self._drawn, sampling)
            return ForwardOutput(self._landing.land(self._drawn), logits)
        if sampling is None:
            sampling = np.zeros((len(batch.logit_rows), SAMPLING_FIELDS), np.float32)
        arrays: tuple[NDArray[np.int32] | NDArray[np.float32], ...] = (
            batch.tokens,
            batch.positions,
            batch.slots,
            batch.row_offsets,
            batch.context_lengths,
            batch.page_table,
            batch.logit_rows,
            sampling,
        )
        inputs = tuple(Buffer.from_numpy(array) for array in arrays)
        on_device = inputs if self.device.is_host else tuple(buffer.to(self.device) for buffer in inputs)
        with late_timers() if self.device.is_host else nullcontext():
            self._drawn, logits = self._model.execute(*on_device, self._drawn, *cache.buffers)
        tokens = self._drawn if self.device.is_host else self._landing.land(self._drawn)
        return ForwardOutput(tokens, logits, inputs)


def _buffer(tensor: Tensor) -> Buffer:
    """The tensor as a host buffer of its true dtype; no copy."""
    data = np.ascontiguousarray(tensor.data)
    if not data.flags.writeable:  # a view of a mapped file: MAX takes only writable arrays
        data = data.copy()
    buffer = Buffer.from_numpy(data)
    return buffer.view(DTYPES[tensor.dtype], data.shape) if tensor.dtype == "bfloat16" else buffer


def build_graph(
    config: Qwen3Config,
    shapes: Mapping[str, tuple[DType, tuple[int, ...]]],
    device: DeviceRef,
    dtype: DType,
    page_size: int,
    kernels: str | os.PathLike[str] | None = None,
) -> Graph:
    """The graph of a whole step; `shapes` has dtype and shape of every tensor in the weights registry."""
    int32 = DType.int32
    cache = BufferType(dtype, ["pages", 2, config.num_kv_heads, page_size, config.head_dim], device)
    inputs: list[TensorType | BufferType] = [
        TensorType(int32, ["tokens"], device),
        TensorType(int32, ["tokens"], device),
        TensorType(int32, ["tokens"], device),
        TensorType(int32, ["row_offsets"], device),
        TensorType(int32, ["rows"], device),
        TensorType(int32, ["rows", "row_pages"], device),
        TensorType(int32, ["logit_rows"], device),
        TensorType(DType.float32, ["logit_rows", SAMPLING_FIELDS], device),
        TensorType(int32, ["drawn"], device),
        *[cache] * config.num_layers,
    ]
    with Graph("mili", input_types=inputs, custom_extensions=[kernel_package(kernel_path(kernels))]) as graph:
        tokens, positions, slots, row_offsets, context_lengths, page_table, logit_rows, sampling, drawn = (
            value.tensor for value in graph.inputs[:9]
        )
        caches: list[BufferValue] = [value.buffer for value in graph.inputs[9:]]

        def weight(name: str) -> TensorValue:
            kind, shape = shapes[name]
            return graph.add_weight(Weight(name, kind, shape, device))

        eps = config.rms_norm_eps
        embed = weight("embed")
        cos_sin = weight(_COS_SIN)
        residual = ops.embedding(ops.resolve_tokens(tokens, drawn), embed, config.hidden_size)
        x: TensorValue | None = None
        for i, cache_buffer in enumerate(caches):
            name = f"layers.{i}."
            if x is None:
                h = ops.rms_norm(residual, weight(name + "input_norm"), eps)
            else:
                h, residual = ops.add_rms_norm(x, residual, weight(name + "input_norm"), eps)
            q = ops.qk_norm_rope_write(
                ops.linear(h, weight(name + "qkv"), config.qkv_size),
                weight(name + "q_norm") if config.qk_norm else None,
                weight(name + "k_norm") if config.qk_norm else None,
                eps,
                cos_sin,
                positions,
                slots,
                cache_buffer,
            )
            o = ops.attention(
                q,
                cache_buffer,
                row_offsets,
                context_lengths,
                page_table,
                scale=config.head_dim**-0.5,
                window=config.windows[i],
            )
            if i == config.num_layers - 1:
                o, residual = ops.gather_rows(o, logit_rows), ops.gather_rows(residual, logit_rows)
            x = ops.linear(o, weight(name + "o"), config.hidden_size)
            h, residual = ops.add_rms_norm(x, residual, weight(name + "post_norm"), eps)
            gate_up = ops.linear(h, weight(name + "gate_up"), 2 * config.intermediate_size)
            x = ops.linear(ops.swiglu(gate_up), weight(name + "down"), config.hidden_size)
        assert x is not None  # a model has at least one layer
        h, _ = ops.add_rms_norm(x, residual, weight("norm"), eps)
        head = embed if config.tie_word_embeddings else weight("head")
        logits = ops.linear(h, head, config.vocab_size, out_dtype=DType.float32)
        graph.output(ops.sample(logits, sampling), logits)
    return graph
