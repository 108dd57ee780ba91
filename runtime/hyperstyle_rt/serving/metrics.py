"""What a service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .pool import Pool
from .store import Store

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one service."""

    def __init__(self, pool: Pool, store: Store) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(pool, store))
        self._requests = Counter(
            "hyperstyle_requests",
            "Requests, by route, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "hyperstyle_job_seconds",
            "Time of jobs from their request to their end, with the wait in the queue.",
            ("job", "outcome"),
            buckets=SECONDS,
            registry=self._registry,
        )

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count a request by the route's pattern: ids are nobody's business."""
        self._requests.labels(route, method, str(status)).inc()

    def observe_job(self, job: str, outcome: str, seconds: float) -> None:
        """Note how long a job took."""
        self._seconds.labels(job, outcome).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Numbers that are asked for when they are wanted."""

    def __init__(self, pool: Pool, store: Store) -> None:
        self._pool = pool
        self._store = store

    def collect(self):  # type: ignore[no-untyped-def]
        """Give what is so now."""
        state = self._pool.state
        for name, says, value in (
            ("hyperstyle_queue_length", "Jobs that wait.", state.waiting),
            ("hyperstyle_jobs_working", "Jobs at work.", state.working),
            ("hyperstyle_workers_ready", "Workers with an open model.", state.ready),
            ("hyperstyle_worker_restarts", "Workers that were started anew.", state.restarts),
            ("hyperstyle_inversions_kept", "Inversions that can be used.", len(self._store)),
        ):
            yield GaugeMetricFamily(name, says, value=value)
