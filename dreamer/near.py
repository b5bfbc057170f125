"""What somebody may have meant who gave a name that there is not: only what a slip of the hand explains."""

from collections.abc import Iterable

_LONGEST = 60  # letters of a name that are looked at


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Those of the known names to which the fewest letters must be changed, left out, added, or swapped with the next.

    Up to a quarter of the letters, and one of three; empty where all are farther away.
    """
    name, slips = name[: _LONGEST + 1], {}
    for other in dict.fromkeys(known):
        most = _allowed(max(len(name), len(other)))
        if abs(len(other) - len(name)) <= most and (count := _slips(name, other)) <= most:
            slips[other] = count
    best = min(slips.values(), default=0)
    return [other for other, count in slips.items() if count == best]


def _allowed(letters: int) -> int:
    return max(letters // 4, 1 if letters > 2 else 0)


def _slips(name: str, other: str) -> int:
    """The distance of two words: insertions, deletions, substitutions and swaps of neighbours."""
    before, row = [0], list(range(len(other) + 1))
    for i, letter in enumerate(name, 1):
        before, last, row = row, before, [i]
        for j, theirs in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != theirs)))
            if i > 1 and j > 1 and (letter, name[i - 2]) == (other[j - 2], theirs):
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
