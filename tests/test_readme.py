"""What README.md names must exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`((?:dreamer|tests)/[\w/]+\.py)::([\w.]+)`", README)))


def names(tree, prefix=""):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize(("file", "name"), REFERENCES)
def test_names_in_the_table_from_paper_to_code_exist(file, name):
    assert name in set(names(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


def test_the_table_is_complete():
    table = README[README.index("## From the paper to the code") :]
    for number in range(1, 11):
        assert re.search(rf"Eqs?\. ({number}\b|\d+-(\d+))", table), f"equation {number} is missing"
    assert len(REFERENCES) > 30


def test_pictures_and_links_to_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
