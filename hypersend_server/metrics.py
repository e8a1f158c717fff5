"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry a server, so that two servers in one process do not share numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("hypersend_requests", "Requests answered.", ["method", "route", "status"],
                                 registry=self.registry)
        self._durations = Histogram(
            "hypersend_request_seconds", "Time from a request's head to the end of its answer.", ["method", "route"],
            buckets=(0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600), registry=self.registry)
        self.uploaded_bytes = Counter("hypersend_uploaded_bytes", "Bytes of chunks that earned a receipt.", ["backend"],
                                      registry=self.registry)
        self.uploaded_chunks = Counter("hypersend_uploaded_chunks", "Chunks that earned a receipt.", ["backend"],
                                       registry=self.registry)
        self.messages = Counter("hypersend_messages", "Messages accepted.", registry=self.registry)

    def request(self, request: web.Request, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        # The route, never the path: ids would make a new series each.
        route = resource.canonical if resource is not None else "unknown"
        self._requests.labels(request.method if resource is not None else "other", route, status).inc()
        if resource is not None and status != 101:  # a WebSocket's whole life is no duration of a request
            self._durations.labels(request.method, route).observe(seconds)

    def stored(self, backend: str, size: int) -> None:
        """A chunk of `size` bytes earned its receipt."""
        self.uploaded_bytes.labels(backend).inc(size)
        self.uploaded_chunks.labels(backend).inc()

    def posted(self) -> None:
        """A message was accepted that had not been sent before."""
        self.messages.inc()

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A number that is read when Prometheus asks."""
        Gauge(f"hypersend_{name}", help_text, registry=self.registry).set_function(read)

    def family(
        self, name: str, help_text: str, label: str, read: Callable[[], Mapping[str, float]], *, counts: bool = False
    ) -> None:
        """Numbers by one label, read when Prometheus asks. counts: they only grow."""
        self.registry.register(_Family(f"hypersend_{name}", help_text, label, read, counts=counts))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Family(Collector):
    def __init__(
        self, name: str, help_text: str, label: str, read: Callable[[], Mapping[str, float]], *, counts: bool
    ) -> None:
        self._name = name
        self._help = help_text
        self._label = label
        self._read = read
        self._kind = CounterMetricFamily if counts else GaugeMetricFamily

    def describe(self) -> Iterable[Metric]:
        return [self._kind(self._name, self._help, labels=[self._label])]

    def collect(self) -> Iterator[Metric]:
        family = self._kind(self._name, self._help, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family
