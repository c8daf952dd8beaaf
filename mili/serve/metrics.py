"""GET /metrics: the engine's counters in Prometheus' text format. https://prometheus.io/docs/instrumenting/exposition_formats"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mili.metrics import EngineMetrics, Histogram
from mili.serve.state import ServerState

_COUNTERS = {
    "steps": "Steps of the engine",
    "failed_steps": "Steps that raised an error",
    "prompt_tokens": "Prompt tokens of admitted requests",
    "cached_tokens": "Of them, found in the prefix cache",
    "generated_tokens": "Tokens generated",
    "preemptions": "Requests that had to give up their pages",
    "evicted_pages": "Pages evicted from the prefix cache",
}
_GAUGES = {
    "running": "Requests being computed",
    "waiting": "Requests in the queue",
    "pages": "Pages of the KV cache",
    "free_pages": "Of them, free",
    "cached_pages": "Of them, in the prefix cache",
    "evictable_pages": "Of them, in the prefix cache and used by no running request",
}
_HISTOGRAMS = {
    "queue_seconds": "From arrival to the first step",
    "first_token_seconds": "From arrival to the first token",
    "inter_token_seconds": "Between two tokens of a request",
    "request_seconds": "From arrival to the end",
    "step_seconds": "Duration of a step",
    "step_tokens": "Tokens computed in a step",
}


class EngineCollector:
    """Reads the engine's metrics when Prometheus asks, and not otherwise."""

    def __init__(self, state: ServerState) -> None:
        self.state = state

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        ready = GaugeMetricFamily("mili_ready", "1 if requests are served", labels=["model"])
        ready.add_metric([self.state.name], float(self.state.ready))
        yield ready
        answers = CounterMetricFamily("mili_http_responses", "Answers", labels=["route", "status"])
        for (route, status), count in list(self.state.responses.items()):
            answers.add_metric([route, str(status)], count)
        yield answers
        if self.state.engine is None:
            return
        metrics = self.state.engine.metrics
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"mili_{name}", text, value=getattr(metrics, name))
        finished = CounterMetricFamily(
            "mili_finished_requests", "Requests by the reason of their end", labels=["reason"]
        )
        for reason, count in metrics.finished.items():
            finished.add_metric([reason], count)
        yield finished
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"mili_{name}", text, value=getattr(metrics, name))
        yield from self._histograms(metrics)

    def _histograms(self, metrics: EngineMetrics) -> Iterable[Metric]:
        for name, text in _HISTOGRAMS.items():
            histogram: Histogram = getattr(metrics, name)
            rows = [("+Inf" if bound == float("inf") else str(bound), n) for bound, n in histogram.cumulative()]
            yield HistogramMetricFamily(f"mili_{name}", text, buckets=rows, sum_value=histogram.sum)


def exposition(state: ServerState) -> bytes:
    """The body of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(state))
    return generate_latest(registry)
