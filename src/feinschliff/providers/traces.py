"""Traces by OpenTelemetry, sent as the standard variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME …)."""
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from feinschliff.core.errors import MissingExtra
from feinschliff.core.ports import NoTraces, Traces

if TYPE_CHECKING:
    pass

SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def make_traces() -> Traces:
    """None are made, and nothing of OpenTelemetry is loaded, where no variable names a collector. Raises MissingExtra."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not any(os.environ.get(name) for name in SWITCHES):
        return NoTraces()
    if find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise MissingExtra("opentelemetry-exporter-otlp-proto-http", extra="otel", feature="Tracing (OTEL_EXPORTER_OTLP_ENDPOINT is set)")
    return OtlpTraces()


class OtlpTraces:
    """`provider` is also what instruments the web application. `close` sends what has not been sent."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "feinschliff"}
        self.provider: TracerProvider = TracerProvider(resource=Resource.create(name))
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self.provider.get_tracer("feinschliff")

    def here(self) -> str | None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get("traceparent")

    def tell(
        self, name: str, began_s: float, ended_s: float, attributes: Mapping[str, str | int | float], parent: str | None = None, /
    ) -> str | None:
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        above = None if parent is None else propagator.extract({"traceparent": parent})
        span = self._tracer.start_span(name, context=above, attributes=dict(attributes), start_time=int(began_s * 1e9))
        span.end(int(ended_s * 1e9))
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(span))
        return carrier.get("traceparent")

    def close(self) -> None:
        self.provider.shutdown()
