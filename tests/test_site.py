"""The site of `make docs`: it builds, has every page, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a browser loads by itself; links that a reader may follow are not among it.
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|video|object|embed)\b[^>]*?\b(?:src|href|data)=[\"']?([^\"'\s>]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet, with which warnings do not count.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def read(path):
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    found = {path.name: [name for name in LOADED.findall(read(path)) if re.match(r"(\w+:)?//", name)] for path in pages}
    assert len(found) > 20
    assert {name: elsewhere for name, elsewhere in found.items() if elsewhere} == {}
    sheets = [path for path in site.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//|@import", read(path))]
    assert sheets == []


def test_every_page_of_docs_can_be_reached_from_the_navigation(site):
    start = read(site / "index.html")
    pages = [path.stem for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f'href="{name}.html"' not in start] == []


def test_links_to_files_of_the_repository_are_links_within_the_site(site):
    readme = read(site / "readme.html")
    for target in ("what-ails-a-run.html", "benchmarks.html", "configs.html#defaults", "contributing.html", "LICENSE"):
        assert f'href="{target}"' in readme, target
    assert 'href="../' not in read(site / "what-ails-a-run.html")
    assert 'id="tf1_discrete"' in read(site / "configs.html")


def test_the_reference_has_signatures_and_docstrings(site):
    page = read(site / "api" / "dreamer.behavior.returns.html")
    assert 'id="dreamer.behavior.returns.lambda_return"' in page
    assert "return_lambda" in page or "lambda_" in page
    assert "Raises ConfigError" in read(site / "api" / "dreamer.config.html").replace("<code>", "").replace(
        "</code>", ""
    )
