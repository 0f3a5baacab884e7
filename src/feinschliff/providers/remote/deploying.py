"""Azure's management plane: tuned models answer there once they are deployed under a name."""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Self

from feinschliff.catalog.regions import Azure, Training
from feinschliff.core.errors import MissingExtra, ProviderRefused, ProviderUnreachable, RegionNotConfigured
from feinschliff.providers.remote.connect import Token, token_of

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

SKUS = {"standard": "Standard", "global": "GlobalStandard", "developer": "DeveloperTier"}
SCOPE = "https://management.azure.com/.default"
LONGEST_S = 3600  # that a deployment may take
TOKEN_LIVES_S = 300


@dataclass(frozen=True, slots=True)
class Deployed:
    name: str
    model: str
    sku: str
    state: str


class _Bearer:
    """A token of ours as azure-core wants to be given it."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def get_token(self, *scopes: str, **options: object) -> "AccessToken":
        from azure.core.credentials import AccessToken

        return AccessToken(self._token(), int(time()) + TOKEN_LIVES_S)


class Deployments:
    """Of one Azure resource; use it with `with`. Every call may be made again: a name is put, not added."""

    def __init__(self, region: str, azure: Azure, *, poll_s: float = 5.0) -> None:
        """Raises RegionNotConfigured where the resource's place in Azure is not told, MissingExtra."""
        self._region = region
        place = {"subscription": azure.subscription, "resource_group": azure.resource_group, "resource": azure.resource}
        missing = [key for key, value in place.items() if not value]
        if missing:
            raise RegionNotConfigured(
                f"Deploying in {region} goes through Azure's management plane, which needs {', '.join(missing)}.",
                hint=f"Write them into [regions.{region}] of regions.toml; docs/providers.md says where they stand.",
            )
        self._client = _client(region, azure, poll_s)
        self._group, self._resource = azure.resource_group or "", azure.resource or ""
        # azure-core sends tokens over https only; whoever writes http into regions.toml means a machine of one's own.
        self._https = not azure.management_endpoint.startswith("http://")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def deploy(self, name: str, model: str, kind: Training = "developer", capacity: int = 50) -> Deployed:
        """Returns when it answers. Raises ProviderRefused, ProviderUnreachable."""
        from azure.mgmt.cognitiveservices.models import Deployment, DeploymentModel, DeploymentProperties, Sku

        wanted = Deployment(
            sku=Sku(name=SKUS[kind], capacity=capacity),
            properties=DeploymentProperties(model=DeploymentModel(format="OpenAI", name=model, version="1")),
        )
        with _told(self._region, f"deploying {model} as {name}"):
            waits = self._client.deployments.begin_create_or_update(self._group, self._resource, name, wanted, enforce_https=self._https)
            made = waits.result(LONGEST_S)
        state = made.properties.provisioning_state if made.properties else None
        if state != "Succeeded":
            raise ProviderRefused(f"{self._region}: deploying {model} as {name} ended as {state}.", hint="Azure's portal says more.")
        return Deployed(name, model, SKUS[kind], state)

    def all(self) -> list[Deployed]:
        with _told(self._region, "listing deployments"):
            return [
                Deployed(d.name or "", d.properties.model.name or "", d.sku.name if d.sku else "", str(d.properties.provisioning_state))
                for d in self._client.deployments.list(self._group, self._resource, enforce_https=self._https)
                if d.properties is not None and d.properties.model is not None
            ]

    def delete(self, name: str) -> None:
        """One that is gone already is deleted, as Azure has it."""
        with _told(self._region, f"deleting the deployment {name}"):
            self._client.deployments.begin_delete(self._group, self._resource, name, enforce_https=self._https).result(LONGEST_S)


def _client(region: str, azure: Azure, poll_s: float) -> "CognitiveServicesManagementClient":
    try:
        from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
    except ImportError:
        raise MissingExtra("azure-mgmt-cognitiveservices", extra="azure", feature=f"Deploying in {region}") from None
    endpoint = azure.management_endpoint.rstrip("/")
    token = token_of(region, azure.management_token_env, SCOPE)
    return CognitiveServicesManagementClient(_Bearer(token), azure.subscription or "", base_url=endpoint, polling_interval=poll_s)


@contextmanager
def _told(region: str, doing: str) -> Iterator[None]:
    from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError

    try:
        yield
    except (ServiceRequestError, ServiceResponseError) as error:
        raise ProviderUnreachable(f"{region}, {doing}: {error.message}", hint="Check management_endpoint and the network.") from error
    except HttpResponseError as error:
        if error.status_code is not None and (error.status_code == 429 or error.status_code >= 500):
            raise ProviderUnreachable(f"{region}, {doing}: {error.message}") from error
        hint = 'Deploying needs the role "Cognitive Services Contributor" on the resource.' if error.status_code in (401, 403) else ""
        raise ProviderRefused(f"{region}, {doing}: {error.message}", hint=hint) from error
    except AzureError as error:
        raise ProviderRefused(f"{region}, {doing}: {error.message}") from error
