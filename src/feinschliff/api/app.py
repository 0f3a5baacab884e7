"""The web application: routes, errors, keys. It is given a service and owns nothing."""
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from feinschliff import __version__
from feinschliff.api import docs, errors, operations
from feinschliff.api.azure.routes import AZURE
from feinschliff.api.extension import audit, catalog, deployments, job_cost, job_queue, tokens
from feinschliff.api.gauges import ServiceGauges
from feinschliff.api.openai import (
    chat,
    completions,
    embeddings,
    eval_runs,
    evals,
    files,
    fine_tuning,
    graders,
    models,
    permissions,
    responses,
    uploads,
)
from feinschliff.api.rates import Rates
from feinschliff.api.requests import RequestMetrics, Requests
from feinschliff.api.tracing import describer, instrument
from feinschliff.app.answering import rest_now_and_then
from feinschliff.app.eval_work import carry_out_runs
from feinschliff.app.service import Service

OPENAI = (
    files.router, uploads.router, fine_tuning.router, permissions.router, models.router, chat.router, completions.router,
    embeddings.router, responses.router, evals.router, eval_runs.router, graders.router, deployments.router, catalog.router, job_cost.router, job_queue.router,
    tokens.router, audit.router,
)
PREFIXES = ("/v1", "/openai/v1")  # OpenAI's, and Azure's undated one


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Engines live on the server's event loop, and end with it."""
    service = cast(Service, app.state.service)
    beside = [asyncio.create_task(rest_now_and_then(service)), asyncio.create_task(carry_out_runs(service))]
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        service.work.ring()  # whoever waits in a thread stops waiting
        await asyncio.gather(*beside, return_exceptions=True)
        await service.live.close()
        service.embedders.close()


def create_app(service: Service) -> FastAPI:
    """Every dialect's routers over one service."""
    app = FastAPI(title="Feinschliff", version=__version__, docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.service = service
    app.state.registry = CollectorRegistry()
    app.state.rates = Rates(service.settings.limits.requests_per_minute)
    errors.install(app)
    app.include_router(operations.router)
    app.include_router(tokens.router)  # as vLLM has it, besides /v1
    for prefix in PREFIXES:
        for router in OPENAI:
            app.include_router(router, prefix=prefix)
    for router in AZURE:
        app.include_router(router)
    docs.install(app)
    app.state.registry.register(ServiceGauges(service))
    app.add_middleware(
        Requests, metrics=RequestMetrics(app.state.registry), json_bytes=service.settings.limits.json_bytes,
        traced=describer(service.traces),
    )  # fmt: skip
    instrument(app, service.traces)
    return app
