"""Requests as spans, by OpenTelemetry's own instrumentation."""
from collections.abc import Callable, Mapping

from fastapi import FastAPI

from feinschliff.core.ports import Traces
from feinschliff.providers.traces import OtlpTraces

NOISE = "healthz,readyz,metrics"
SHOWN = {"request_id": "feinschliff.request_id", "project": "feinschliff.project", "key_id": "feinschliff.key_id"}


def instrument(app: FastAPI, traces: Traces) -> None:
    """After all middlewares have been added. Spans have the route and the status, and never a body or a header."""
    if isinstance(traces, OtlpTraces):
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app, tracer_provider=traces.provider, excluded_urls=NOISE, exclude_spans=["receive", "send"])


def describer(traces: Traces) -> Callable[[Mapping[str, object]], None]:
    """What adds a request's state to its span."""
    if not isinstance(traces, OtlpTraces):
        return lambda state: None
    from opentelemetry.trace import get_current_span

    def describe(state: Mapping[str, object]) -> None:
        span = get_current_span()
        for field, name in SHOWN.items():
            if (value := state.get(field)) is not None:
                span.set_attribute(name, str(value))

    return describe
