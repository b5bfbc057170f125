"""What a command prints: texts for a terminal or a pipe, and failures in one line."""

import os
import sys
import textwrap

from dreamer.run import formats


def wrap(head: str, text: str, width: int | None) -> list[str]:
    """Lines of `text` beside `head`, the later ones indented, of `width` columns; None: one line."""
    if width is None:
        return [f"{head}{text}".rstrip()]
    # A terminal narrower than the columns before the text gets long lines rather than one letter a line.
    width = max(width, len(head) + 24)
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]


def say(text: str) -> int:
    """Print a command's result; returns the exit code 0."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence()  # `dreamer configs | head`: the reader has what it wanted
    return 0


def silence() -> None:
    """Let nothing that is printed from now on go anywhere: the interpreter must not flush into a closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: object, code: int) -> int:
    """Print what went wrong as one line; returns the exit code."""
    print(f"dreamer: {formats.one_line(message)}", file=sys.stderr, flush=True)
    return code
