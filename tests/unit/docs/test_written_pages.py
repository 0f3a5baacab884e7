"""What the written documents say about the code: names, files and links that exist, codes that are complete."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src" / "feinschliff"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
PACKAGES = "|".join(p.name for p in SOURCE.iterdir() if p.is_dir())
NAME = re.compile(rf"`((?:{PACKAGES})(?:\.\w+)+)`")


def _defined(body):
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node


def _exists(dotted):
    """Whether package.module[.name[.method]] is in the source; nothing is imported, since some of it would load torch."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        place = SOURCE.joinpath(*parts[:n])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            body, rest = ast.parse(file.read_text(encoding="utf-8")).body, parts[n:]
            for name in rest:
                found = dict(_defined(body))
                if name not in found:
                    return False
                body = getattr(found[name], "body", [])
            return True
    return False


@pytest.mark.parametrize("page", ["docs/structures.md", *(f"docs/adr/{p.name}" for p in (ROOT / "docs/adr").glob("0*.md"))])
def test_every_name_exists_in_the_code(page):
    names = NAME.findall((ROOT / page).read_text(encoding="utf-8"))
    assert [name for name in names if not _exists(name)] == []


def test_the_check_can_fail():
    assert _exists("data.render.Renderer.prompt_tokens")
    assert _exists("train")
    assert not _exists("data.render.Renderer.no_such_method")
    assert not _exists("data.no_such_module.name")
    assert len(NAME.findall((ROOT / "docs/structures.md").read_text(encoding="utf-8"))) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert missing == []


def test_the_readme_names_every_package():
    listed = set(re.findall(r"^      (\w+)/ ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    packages = {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    assert listed - {"arms", "data", "logs"} == packages - {"arms", "data"}
    assert {"arms", "data"} <= listed


def test_every_finding_code_is_on_the_page_and_no_other():
    used = set()
    for file in (SOURCE / "data").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r"problems\.(?:error|warning)\(\s*[\w.]+,\s*\"(\w+)\"", text))
        used |= set(re.findall(r"\bcode=\"(\w+)\"", text))
    page = (ROOT / "docs" / "data-formats.md").read_text(encoding="utf-8").partition("## What the check says")[2]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(used) > 40
    assert documented == used


def test_records_are_short_and_complete():
    for record in (ROOT / "docs" / "adr").glob("0*.md"):
        text = record.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 40, record.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Rejected"]
        assert f"({record.name})" in (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
