"""Settings of regions that are somebody else's: what tests write into regions.toml, models.toml and prices.toml."""
KEY = "FAR_KEY"  # the environment variable that holds the key
_RESOURCE = """
[regions.resource]
kind = "azure"
location = "Sweden Central"
endpoint = "{url}"
api_version = "2024-10-21"
key_env = "FAR_KEY"
"""
_MANAGED = """subscription = "sub"
resource_group = "group"
resource = "account"
management_endpoint = "{url}"
management_token_env = "FAR_KEY"
"""
_ACCOUNT = """
[regions.account]
kind = "openai"
base_url = "{url}/v1"
key_env = "FAR_KEY"
"""
_MODEL = """
[[models]]
id = "{name}"
version = "{version}"
kind = "chat"
provider = "{provider}"
fine_tune_regions = ["Sweden Central", "Global"]
licence = "ours"
about = "For tests"
source = "tests"
"""
_PRICE = """
[[prices]]
provider = "{provider}"
model = "{name}"
version = "{version}"
training_million_tokens = 20.0
hosting_hour = 1.5
input_million_tokens = 2.0
output_million_tokens = 8.0
source = "tests"
read = 2026-11-28
"""


def resource(url: str, *, managed: bool = True) -> str:
    """An Azure resource in Sweden Central; `managed` with what deploying needs."""
    return (_RESOURCE + (_MANAGED if managed else "")).format(url=url)


def account(url: str) -> str:
    """An OpenAI account."""
    return _ACCOUNT.format(url=url)


def hosted_model(name: str, provider: str = "azure", version: str = "1") -> str:
    return _MODEL.format(name=name, provider=provider, version=version)


def price(name: str, provider: str = "azure", version: str = "1") -> str:
    """20 for a million trained tokens, 2 and 8 for those of requests and answers, 1.5 for an hour of hosting."""
    return _PRICE.format(name=name, provider=provider, version=version)
