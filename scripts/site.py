"""Hooks of mkdocs.yml: what the site takes from outside docs/.

Pages that lie elsewhere in the repository, one page of all configs, and a page of the reference for every
`api/MODULE.md` in the navigation. Links stay written as they are right in the repository, on a code host too, and are
turned here into links within the site, those to folders into plain text; one that leads nowhere is left as it is, and
fails the strict build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "readme.md",
    "benchmarks/README.md": "benchmarks.md",
    "agents/README.md": "agents.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
FILES = ("LICENSE", "CITATION.cff", "runs/published/curves.json", "runs/published/final.json")
CONFIGS = "configs.md"
_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_LINK = re.compile(r"(\[[^\]]*\]\()(?!\w+:|#)([^)#\s]+)([^)]*\))")


def on_files(files, config):
    """Add what lies outside docs/."""
    texts = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in PAGES.items()}
    texts |= {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}
    texts[CONFIGS] = _configs()
    texts |= {uri: _reference(uri) for uri in _uris(config.nav) if uri.startswith("api/")}
    for uri, text in texts.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Turn links between files of the repository into links between pages of the site."""
    uri = page.file.src_uri
    origins = {page: path for path, page in PAGES.items()}
    folder = posixpath.dirname(origins.get(uri, f"docs/{uri}"))

    def within_site(match):
        text, path, rest = match.groups()
        path = posixpath.normpath(posixpath.join(folder, path))
        if target := _target(path):
            return f"{text}{posixpath.relpath(target, posixpath.dirname(uri) or '.')}{rest}"
        return text[1:-2] if (ROOT / path).is_dir() else match[0]

    # A bar inside of code is escaped for the tables of a code host, and plain in those of Markdown for Python.
    return _LINK.sub(within_site, _ROW.sub(lambda row: row[0].replace(r"\|", "|"), markdown))


def _target(path):
    """Where the site has a file of the repository; None where it has none."""
    if path == "configs" or re.fullmatch(r"configs/\w+\.yaml", path):
        return CONFIGS + (f"#{Path(path).stem}" if path != "configs" else "")
    if path in FILES:
        return path
    if module := re.fullmatch(r"(dreamer/[\w/]+)\.py", path):
        return f"api/{module[1].replace('/', '.')}.md"
    inside = path.startswith("docs/") and not (ROOT / path).is_dir()
    return path.removeprefix("docs/") if inside else PAGES.get(path)


def _configs():
    paths = sorted((ROOT / "configs").glob("*.yaml"), key=lambda path: (path.stem != "defaults", path.stem))
    blocks = [f"## {path.stem}\n\n```yaml\n{path.read_text(encoding='utf-8')}```\n" for path in paths]
    return "\n".join(
        ["# configs/\n\nEvery key, then the overlays, which `--configs NAME ...` lays over them.\n", *blocks]
    )


def _reference(uri):
    module = Path(uri).stem
    return f"# {module}\n\n::: {module}\n"


def _uris(nav):
    """Every page that the navigation names."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else (entry,):
            yield from [value] if isinstance(value, str) else _uris(value)
