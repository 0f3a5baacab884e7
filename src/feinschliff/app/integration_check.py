"""Which integrations a job may have."""
from feinschliff.app.service import Service
from feinschliff.core.finetune import Integration, MlflowIntegration
from feinschliff.core.service_errors import RequestError
from feinschliff.providers.trackers.mlflow_run import default_uri
from feinschliff.providers.trackers.opening import installed


def check_integrations(service: Service, wanted: tuple[Integration, ...]) -> None:
    """Raises RequestError for one whose library is not installed, and for a tracking server that the operator did not name."""
    for number, integration in enumerate(wanted):
        place = f"integrations.{number}"
        if not installed(integration.type):
            raise RequestError(
                f"The integration {integration.type} needs a package that the server does not have.", param=place, code="missing_extra",
                hint=f"pip install 'feinschliff[{integration.type}]'",
            )  # fmt: skip
        named = integration.mlflow.tracking_uri if isinstance(integration, MlflowIntegration) else None
        # Else a client could have the server speak to its network, and hand its MLflow credentials to anybody.
        if named is not None and named not in service.settings.track_to | {default_uri()}:
            raise RequestError(
                f"The server does not track to {named}.", param=f"{place}.mlflow.tracking_uri",
                hint="Leave it out, or have the server started with `feinschliff serve --track-to URI`.",
            )  # fmt: skip
