"""`app.gauges` for Prometheus, read anew at every scrape."""
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from feinschliff.app.gauges import gauges
from feinschliff.app.service import Service
from feinschliff.core.service import JobStatus

OPEN = [status for status in JobStatus if not status.ended]


class ServiceGauges(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        return iter(())  # else registering it would read the database

    @override
    def collect(self) -> Iterator[Metric]:
        now = gauges(self._service)
        jobs = GaugeMetricFamily("feinschliff_jobs", "Jobs that have not ended", labels=("region", "status"))
        places = GaugeMetricFamily("feinschliff_job_places", "Jobs that are trained at once", labels=("region",))
        for region, n in now.concurrency.items():
            places.add_metric((region,), n)
            for status in OPEN:
                jobs.add_metric((region, status), now.jobs.get((region, status), 0))
        tokens = CounterMetricFamily("feinschliff_tokens", "Tokens of answers; cached ones are prompt tokens too", labels=("model", "kind"))
        for (model, kind), n in now.tokens.items():
            tokens.add_metric((model, kind), n)
        engine_labels = ("model",)
        active = GaugeMetricFamily("feinschliff_engine_requests", "Requests that an engine works on or has waiting", labels=engine_labels)
        slots = GaugeMetricFamily("feinschliff_engine_slots", "Sequences that an engine computes together", labels=engine_labels)
        for model, (requests, n) in now.engines.items():
            active.add_metric((model,), requests)
            slots.add_metric((model,), n)
        yield from (jobs, places, tokens, active, slots)
        yield GaugeMetricFamily("feinschliff_stored_bytes", "Of files", now.stored_bytes)
        yield GaugeMetricFamily("feinschliff_disk_free_bytes", "Where the data folder is", now.disk_free_bytes)
        yield GaugeMetricFamily("feinschliff_disk_bytes", "Where the data folder is, in all", now.disk_bytes)
