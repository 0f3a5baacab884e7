"""For whoever runs the server: is it alive, is it ready, how much has it done? Without a key, and without anyone's data."""
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feinschliff.api.access import ServiceOf
from feinschliff.api.wire import Shown
from feinschliff.app.health import check_ready

router = APIRouter(tags=["operations"])


class Health(Shown):
    status: Literal["ok"]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz")
def readyz(service: ServiceOf) -> Health:
    """Database and data folder can be used; 503 otherwise."""
    check_ready(service)
    return Health(status="ok")


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
