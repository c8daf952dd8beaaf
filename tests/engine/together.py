"""Models compiled together: a graph alone costs tens of seconds to compile, each further one in its module a few.

`Qwen3Model` builds, weighs and runs as always; only the call that compiles is put off until all are built.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from max.driver import CPU, Buffer
from max.engine import InferenceSession, Model
from max.graph import Graph, KernelLibrary, Module, Weight

import mili.model
from mili.config import Qwen3Config
from mili.model import Qwen3Model
from mili.weights import WeightLoader


class Together:
    """Models from folders, on the CPU."""

    def __init__(self) -> None:
        self.models: dict[str, Qwen3Model] = {}
        self._module = Module()
        self._weights: dict[str, Buffer] = {}
        self._library = KernelLibrary()

    def add(self, name: str, path: Path, dtype: str, page_size: int) -> None:
        """Build the model of a folder as one more graph of the module; the graph and its weights are named after it."""
        config = Qwen3Config.from_pretrained(path)
        tensors = WeightLoader(path, config).load(dtype, packed=True)
        with mock.patch.multiple(
            mili.model,
            Graph=functools.partial(self._graph, name),
            Weight=lambda weight, *rest: Weight(f"{name}.{weight}", *rest),
            InferenceSession=lambda **_: mock.Mock(load=functools.partial(self._put_off, name)),
        ):
            self.models[name] = Qwen3Model(config, tensors, device=CPU(), dtype=dtype, page_size=page_size)

    def _graph(self, name: str, _: str, custom_extensions: list[Path], **options: Any) -> Graph:
        if not self._library.library_paths():
            self._library.load_paths(custom_extensions)  # builds the kernel package: once for all graphs
        return Graph(name, module=self._module, kernel_library=self._library, **options)

    def _put_off(self, name: str, graph: Graph, weights_registry: Mapping[str, Buffer]) -> None:
        self._weights |= {f"{name}.{weight}": buffer for weight, buffer in weights_registry.items()}

    def compile(self) -> dict[str, Qwen3Model]:
        """Compile what was added; the models are then as if each had been loaded alone."""
        session = InferenceSession(devices=[CPU()])
        compiled: Any = session.compile(self._module, custom_extensions=self._library.library_paths())
        loaded: dict[str, Model] = session.init_all(compiled, weights_registry=self._weights)
        for name, model in self.models.items():
            model._model = loaded[name]
        return self.models
