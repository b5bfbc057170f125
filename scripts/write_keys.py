"""Write dreamer/keys.py, the keys of configs/defaults.yaml with their types, for readers, editors and type checkers.

    python scripts/write_keys.py

configs/defaults.yaml stays the one place that says what keys there are, with unit, range, source and meaning; a test
holds that dreamer/keys.py is what this command writes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dreamer.config import Key, describe  # noqa: E402

HEAD = '''"""The keys of configs/defaults.yaml with their types, as `python scripts/write_keys.py` writes them."""

from dreamer.sections import Section
'''


def source() -> str:
    """The text of dreamer/keys.py."""
    sections: dict[str, list[Key]] = {"": []}
    for key in describe():
        sections.setdefault(key.name.rpartition(".")[0], []).append(key)
    top = sections.pop("")
    classes = [_class(name.title(), f"Section {name}.", keys) for name, keys in sections.items()]
    below = [f"    {name}: {name.title()}" for name in sections]
    return "\n\n".join([HEAD, *classes, "\n".join([_class("Keys", "All keys.", top).rstrip("\n"), *below, ""])])


def _class(name: str, meaning: str, keys: list[Key]) -> str:
    lines = [f"class {name}(Section):", f'    """{meaning}"""', ""]
    lines += [f"    {key.name.rpartition('.')[2]}: {key.type.__name__}  # {key.unit}" for key in keys]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    (ROOT / "dreamer" / "keys.py").write_text(source(), encoding="utf-8")
