"""benchmarks/gpu/precompile.py: a compiled graph is used for the graph that it was made from, and for no other."""

from pathlib import Path

import numpy as np
import pytest
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession
from max.engine._precompiled_mefs import MefStore, _default_key
from max.graph import DeviceRef, Graph, TensorType, Weight

from benchmarks.gpu.precompile import artifact_name, stored_graphs
from mili.kernel_package import kernel_package


def last_of_table(rows: int) -> Graph:
    """x + the last of a table of `rows` numbers, which is a weight and so no input."""
    with Graph("last_of_table", input_types=[TensorType(DType.float32, [1], DeviceRef.CPU())]) as graph:
        table = graph.add_weight(Weight("table", DType.float32, [rows], DeviceRef.CPU()))
        graph.output(graph.inputs[0].tensor + table[rows - 1 :])
    return graph


def run(rows: int) -> float:
    """The result for x = 1 and a table of 1, 2, ...."""
    weights = {"table": Buffer.from_numpy(np.arange(1, rows + 1, dtype=np.float32))}
    model = InferenceSession(devices=[CPU()]).load(last_of_table(rows), weights_registry=weights)
    return float(model.execute(Buffer.from_numpy(np.ones(1, np.float32)))[0].to_numpy()[0])


def test_a_graph_with_a_weight_of_another_shape_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _default_key(last_of_table(4)) == _default_key(last_of_table(2))  # why MAX's own names do not serve
    assert artifact_name(last_of_table(4)) == artifact_name(last_of_table(4)) != artifact_name(last_of_table(2))
    monkeypatch.setattr(InferenceSession, "default_mef_store", MefStore.for_export(tmp_path, key=artifact_name))
    assert run(4) == 5
    store = stored_graphs([tmp_path])
    monkeypatch.setattr(InferenceSession, "default_mef_store", store)
    assert store.key(last_of_table(4)) == artifact_name(last_of_table(4)) in {file.name for file in tmp_path.iterdir()}
    assert run(4) == 5
    assert capsys.readouterr().err == ""
    assert run(2) == 3
    assert "graph last_of_table" in capsys.readouterr().err


def test_a_graph_of_other_kernels_has_another_name(tmp_path: Path) -> None:
    names = set()
    for text in ("one", "two"):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "__init__.mojo").write_text(f'comptime NAME = "{text}"\n')
        with Graph("g", input_types=[], custom_extensions=[kernel_package(folder)]) as graph:
            graph.output()
        names.add(artifact_name(graph))
    assert len(names) == 2
