"""The benchmarks over a fake engine: sizes, figures that add up, arrivals, the HTTP client, the plot."""

import argparse
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mili.bench import serving, throughput
from mili.bench.__main__ import pair, parser, rates
from mili.bench.report import percentiles, plot_serving, table
from mili.engine import Engine, EngineOptions
from mili.errors import ConfigError
from tests.engine.fakes import FakeCache, FakeConfig, FakeModel


def make(context=1024):
    cache = FakeCache(600, 8)
    model = FakeModel(cache, FakeConfig(max_position_embeddings=context))
    return Engine(model, None, cache, EngineOptions(max_running=16, max_batch_tokens=64))


def test_the_nano_vllm_workload_is_that_of_its_own_script():
    """The first numbers that Python's random gives with seed 0 in the order of that script."""
    prompts, params = throughput.workload(throughput.PRESETS["nano-vllm"], 151936)
    assert len(prompts) == len(params) == 256
    assert (len(prompts[0]), prompts[0][:3]) == (964, [6311, 6890, 663])
    assert sum(map(len, prompts)) == 142_827
    assert sum(p.max_tokens for p in params) == 133_966
    assert all(p.temperature == 0.6 and p.ignore_eos for p in params)


def test_throughput_counts_what_was_computed():
    engine = make()
    preset = throughput.Preset(6, (10, 30), (5, 9), 0.6)
    result = throughput.run(engine, preset, runs=3, progress=False)
    prompts, params = throughput.workload(preset, 272)
    assert result["prompt_tokens"] == sum(map(len, prompts))
    assert result["output_tokens"] == sum(p.max_tokens for p in params)
    seconds = result["output_tokens"] / result["output_tokens_per_second"]
    assert seconds == pytest.approx(result["seconds"], abs=1e-4)  # it is rounded
    assert engine.metrics.cached_tokens == 0, "a run must not live on the prefixes of the one before"


def test_a_single_request_tells_prefill_from_decode():
    result = throughput.run(make(), throughput.PRESETS["single"], progress=False)
    assert (result["prompt_tokens"], result["output_tokens"]) == (128, 512)
    assert result["steps"] == 2 + 511
    assert result["prefill_tokens_per_second"] > 0
    assert result["decode_tokens_per_second"] > 0


def test_a_context_too_short_is_said_before_running():
    with pytest.raises(ConfigError, match="a request of 640 tokens and the context holds 256"):
        throughput.run(make(256), throughput.PRESETS["single"], progress=False)


def test_arrivals_are_poisson_and_the_same_each_time():
    work = serving.Workload(requests=4000, seed=3)
    times = work.arrivals(5.0)
    gaps = np.diff(times)
    assert times == work.arrivals(5.0) == sorted(times)
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    assert gaps.std() == pytest.approx(0.2, rel=0.1)
    assert work.arrivals(None) == [0.0] * 4000


def test_serving_in_process(tmp_path):
    work = serving.Workload(requests=20, prompt=(5, 40), output=(2, 9), shared=24)
    with make() as engine:
        client = serving.engine_client(engine, 0.0)
        requests = work.make(272)
        records = asyncio.run(serving.drive(client, requests, work.arrivals(200.0)))
    summary, samples = serving.summarise(records, 200.0, 10.0, 10.0)
    assert summary["failed"] == 0
    assert summary["output_tokens"] == sum(count for _, count in requests)
    assert len(samples["itl"]) == summary["output_tokens"] - 20
    assert summary["goodput_requests_per_second"] == summary["requests_per_second"]
    assert summary["cached_tokens"] >= 19 * 24 - 24
    assert summary["ttft_ms"]["p50"] <= summary["ttft_ms"]["p99"] <= summary["e2e_ms"]["max"]
    none, _ = serving.summarise(records, 200.0, 0.0, 0.0)
    assert none["goodput_requests_per_second"] == 0
    pytest.importorskip("matplotlib")
    plot_serving(tmp_path / "a.png", [summary], [samples])
    assert (tmp_path / "a.png").stat().st_size > 10_000


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["prompt"][0] == 13:
            self.send_error(429, "busy")
            return
        self.send_response(200)
        self.end_headers()
        for _ in range(body["max_tokens"]):
            self.wfile.write(b'data: {"choices": [{"text": "x"}]}\n\n')
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


def test_serving_over_http():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = serving.http_client(f"http://127.0.0.1:{server.server_port}", "m", 0.0, "key")
    records = asyncio.run(serving.drive(client, [([1, 2], 5), ([13], 5), ([3], 2)], [0.0, 0.0, 0.0]))
    server.shutdown()
    assert [len(record.tokens) for record in records] == [5, 0, 2]
    assert records[1].error.startswith("429")
    summary, _ = serving.summarise(records, None, 1.0, 1.0)
    assert (summary["failed"], summary["output_tokens"]) == (1, 7)
    gone = serving.http_client("http://127.0.0.1:9", "m", 0.0, None)
    assert "refused" in asyncio.run(serving.drive(gone, [([1], 1)], [0.0]))[0].error


def test_percentiles_and_tables():
    row = percentiles([0.001 * i for i in range(1, 101)])
    assert row == {"mean": 50.5, "p50": 50.5, "p90": 90.1, "p95": 95.05, "p99": 99.01, "max": 100.0}
    assert percentiles([]) == {}
    rows = [{"a": 1, "b": 1234.56}, {"a": "xyz"}]
    assert table(rows).splitlines() == ["  a        b", "  1  1,234.6", "xyz        -"]


def test_options():
    assert pair("3:5") == (3, 5)
    assert pair("7") == (7, 7)
    assert rates("1,2.5,inf") == [1.0, 2.5, None]
    for kind, text in ((pair, "5:3"), (pair, "x"), (pair, "0"), (rates, "0"), (rates, "a"), (rates, "nan")):
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)
    options = parser().parse_args(["throughput", "--preset", "single", "--model-shape", "tiny", "--random-weights"])
    assert options.preset == "single"


def test_users_of_a_url_do_not_queue_in_the_client():
    users = 40
    together = threading.Barrier(users)

    class Crowded(BaseHTTPRequestHandler):
        def do_POST(self):
            together.wait(20)  # answers nobody before all have asked
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n')

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = users

    server = Server(("127.0.0.1", 0), Crowded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = serving.http_client(f"http://127.0.0.1:{server.server_port}", "m", 0.0, None)
    records = asyncio.run(serving.drive(client, [([1], 1)] * users, [0.0] * users))
    server.shutdown()
    assert [record.error for record in records] == [None] * users
    assert all(len(record.tokens) == 1 for record in records)
