"""/docs and /openapi.json of a real server; the page's snippets are run as they stand."""
import html
import re
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator
from running import ADMIN_KEY


@pytest.fixture(scope="module")
def page(server):
    answer = server.http(None).get("/docs")
    assert answer.status_code == 200
    return answer.text


def snippets(page):
    return [(language, html.unescape(text)) for language, text in re.findall(r'<pre data-language="(\w+)">(.*?)</pre>', page, re.DOTALL)]


def test_the_page_loads_nothing_from_elsewhere(server, page):
    assert re.findall(r"<script|<link|<img|@import|url\(", page) == []
    assert {link for link in re.findall(r"https?://[^\s\"'<]+", page) if not link.startswith(server.url)} == set()


@pytest.mark.parametrize("number", range(3))
def test_every_snippet_runs(page, number):
    assert len(snippets(page)) == 3
    language, text = snippets(page)[number]
    command = ["bash", "-ec"] if language == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*command, text.replace("KEY", ADMIN_KEY)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_document_tells_of_the_errors_and_bodies_that_come(server):
    document = server.http(None).get("/openapi.json").json()
    assert "422" not in str(document["paths"]["/v1/deployments"]["post"]["responses"])
    http = server.http()
    answers = {
        "/v1/deployments": http.get("/v1/deployments"), "/v1/catalog/models": http.get("/v1/catalog/models"),
        "/v1/catalog/regions": http.get("/v1/catalog/regions"), "/v1/audit": http.get("/v1/audit"),
        "/v1/deployments/{name}": http.get("/v1/deployments/none"), "/v1/fine_tuning/jobs/{job_id}/queue": http.get("/v1/fine_tuning/jobs/none/queue"),
        "/v1/fine_tuning/jobs/{job_id}/cost": http.get("/v1/fine_tuning/jobs/none/cost"),
    }  # fmt: skip
    for path, answer in answers.items():
        responses = document["paths"][path]["get"]["responses"]
        schema = responses.get(str(answer.status_code), responses["4XX"])["content"]["application/json"]["schema"]
        problems = list(Draft202012Validator({**schema, "components": document["components"]}).iter_errors(answer.json()))
        assert problems == [], path
