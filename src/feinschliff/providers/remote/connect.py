"""A region of regions.toml → the official client for it, with its credential from the environment."""
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from feinschliff.catalog.regions import Azure, OpenAi, missing_credential
from feinschliff.core.errors import MissingExtra, RegionNotConfigured
from feinschliff.providers.remote.standing import no_credential

if TYPE_CHECKING:
    from openai import OpenAI

RETRIES = 6  # of a call that may be made twice; waits of 0.5, 1, 2, 4, 8, 8 s, or what Retry-After says
TIMEOUT_S = 120.0
UNDATED = "v1"
COGNITIVE_SCOPE = "https://cognitiveservices.azure.com/.default"

Token = Callable[[], str]


def connect(name: str, region: Azure | OpenAi, environment: Mapping[str, str] = os.environ, *, retries: int = RETRIES) -> "OpenAI":
    """Raises MissingExtra, and RegionNotConfigured where the credential is not set."""
    try:
        from openai import AzureOpenAI, OpenAI
    except ImportError:
        raise MissingExtra("openai", extra="openai", feature=f"The region {name}") from None
    if (variable := missing_credential(region, environment)) is not None:
        raise no_credential(name, variable)
    common = {"max_retries": retries, "timeout": TIMEOUT_S}
    if isinstance(region, OpenAi):
        return OpenAI(base_url=region.base_url, api_key=environment[region.key_env], **common)
    endpoint = region.endpoint.rstrip("/")
    if region.credential == "key":
        key = environment[region.key_env]
        if region.api_version == UNDATED:
            return OpenAI(base_url=f"{endpoint}/openai/v1", api_key=key, **common)
        return AzureOpenAI(azure_endpoint=endpoint, api_version=region.api_version, api_key=key, **common)
    token = token_of(name, region.token_env, COGNITIVE_SCOPE, environment)
    if region.api_version == UNDATED:
        return OpenAI(base_url=f"{endpoint}/openai/v1", api_key=token, **common)
    return AzureOpenAI(azure_endpoint=endpoint, api_version=region.api_version, azure_ad_token_provider=token, **common)


def token_of(name: str, variable: str | None, scope: str, environment: Mapping[str, str] = os.environ) -> Token:
    """What gives an Entra token for `scope`: the variable, else whatever azure-identity finds (a service principal in AZURE_CLIENT_ID,
    AZURE_CLIENT_SECRET and AZURE_TENANT_ID, a managed identity, `az login`). Raises MissingExtra, RegionNotConfigured.
    """
    if variable is not None:
        if not environment.get(variable):
            raise RegionNotConfigured(
                f"A token for the region {name} is not there: {variable} is not set.",
                hint=f"For example: export {variable}=$(az account get-access-token --scope {scope} --query accessToken -o tsv)",
            )
        return lambda: environment[variable]
    try:
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider
    except ImportError:
        raise MissingExtra("azure-identity", extra="azure", feature=f"An Entra credential for the region {name}") from None
    return get_bearer_token_provider(DefaultAzureCredential(), scope)
