"""What goes wrong with a remote call, as errors that say what to do."""
from collections.abc import Iterator
from contextlib import contextmanager

from openai import APIConnectionError, APIStatusError, OpenAIError

from feinschliff.core.errors import ProviderRefused, ProviderUnreachable

BUSY = frozenset({408, 429})  # what the client tries again, as it does with all of 500 and above
CONFLICT = 409
SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # a 429 that does not go away


class Conflicted(ProviderRefused):
    """What was asked goes against how things stand: a model that is deployed is not deleted, and two calls came at once."""

    code = "provider_conflict"


@contextmanager
def told(region: str, doing: str) -> Iterator[None]:
    """Raises ProviderUnreachable where the call may be made again later, ProviderRefused where the answer would be the same."""
    try:
        yield
    except APIStatusError as error:
        if (error.status_code in BUSY or error.status_code >= 500) and error.code not in SPENT:
            wait = _seconds(error.response.headers.get("retry-after"))
            later = f"It asks to come again in {wait:g} s." if wait else "Try again later; what was begun is found again."
            raise ProviderUnreachable(
                f"{region}, {doing}: {error.status_code} {_said(error)}", hint=later, retry_after_s=wait
            ) from error
        kind = Conflicted if error.status_code == CONFLICT else ProviderRefused
        raise kind(f"{region}, {doing}: {_said(error)}", hint=_remedy(error.status_code, error.code)) from error
    except APIConnectionError as error:
        cause = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
        raise ProviderUnreachable(f"{region}, {doing}: {cause}", hint="Check the region's address in regions.toml and the network.") from error
    except OpenAIError as error:
        raise ProviderRefused(f"{region}, {doing}: {error}") from error


def _said(error: APIStatusError) -> str:
    """The provider's own words, where there are any."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or error.message)


def _remedy(status: int, code: str | None) -> str:
    if code in SPENT:
        return "The account's credit or limit is used up: that is raised at the provider."
    match status:
        case 401:
            return "Check the key in the variable that regions.toml names, and that it belongs to this resource."
        case 403:
            return 'Check the role of the credential: tuning needs "Cognitive Services OpenAI Contributor" at Azure, a project key with write access at OpenAI.'
        case 404:
            return "Check the name, the region's endpoint and its api_version; at Azure, models answer by the name of their deployment."
        case _:
            return "That is the provider's answer; its documentation says more."


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header)) if header else 0.0
    except ValueError:
        return 0.0
