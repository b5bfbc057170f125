"""What README.md and docs/code.md name must exist."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer import demo

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`((?:dreamer|tests)/[\w/]+\.py)::([\w.]+)`", CODE)))


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
    table = CODE[CODE.index("## From the paper to the code") :]
    for number in range(1, 11):
        assert re.search(rf"Eqs?\. ({number}\b|\d+-(\d+))", table), f"equation {number} is missing"
    assert len(REFERENCES) > 30


def test_every_module_stands_in_the_map():
    tree = CODE[CODE.index("## Where things are") : CODE.index("## From the paper to the code")]
    modules = {path.name for path in (ROOT / "dreamer").glob("*.py")} | {
        path.name for path in (ROOT / "dreamer").glob("*/*.py")
    }
    named = set(re.findall(r"\w+\.py", tree))
    assert modules - named == {"__init__.py", "__main__.py"}
    overlays = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert overlays - set(re.findall(r"\w+", tree.partition("\ndreamer/")[0])) == set()


def test_pictures_and_links_to_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_demos_take_as_long_as_they_say():
    (minutes,) = re.findall(r"`make demo TASK=cartpole_balance`\s+takes\s+(\d+\s+minutes)", README)
    assert " ".join(minutes.split()) == demo.DEMOS["cartpole_balance"].minutes
    assert f"{demo.DEMOS['cartpole_balance'].steps:,} frames" in README


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_sections_that_configs_name_exist(path):
    for page, heading in re.findall(r'(\S+\.md), "([^"]+)"', path.read_text(encoding="utf-8")):
        assert re.search(rf"^#+ {re.escape(heading)}$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE), (
            heading
        )


def test_lines_for_pandas_can_be_pasted_and_draw_every_round(tmp_path):
    page = (ROOT / "docs" / "files-of-a-run.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import json\n.*?)```", page, re.DOTALL)
    run = tmp_path / re.search(r'run = "(.*)"', lines)[1]
    run.mkdir(parents=True)
    steps = (100, 200, 300)
    written = [{"step": step, **row} for step in steps for row in ({"train/kl": step}, {"eval/return": 1.5})]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    (run / "open_loop.jsonl").write_text('{"step": 100, "context": 5, "image": [1.0], "image_repeat": [2.0]}\n')
    (run / "scores.json").write_text('{"task": "a", "method": "b", "seed": 0, "xs": [100], "ys": [1.5]}')
    seen = "\nprint(metrics.columns.tolist(), metrics.notna().all().all(), len(scores), len(open_loop))"
    seen += "\nimport matplotlib.pyplot as plt\nprint(plt.gca().lines[0].get_ydata().tolist())"
    done = subprocess.run([sys.executable, "-c", lines + seen], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['train/kl', 'eval/return'] True 1 1", "[100.0, 200.0, 300.0]"]
    assert (tmp_path / "kl.png").stat().st_size > 1000
