"""With which settings a run goes on: those it has, but for what the command line changes and a resume may change."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import __version__, config
from dreamer.run import formats, layout
from dreamer.run.commits import FORMAT
from dreamer.run.files import replacing


class SettingsError(ValueError):
    """Settings with which the run cannot go on; the message is shown as it is."""


class Settings(NamedTuple):
    """config: what the run goes on with. previous: what it has had, None for a new run. changes: (key, old, new) of the
    keys that change what is learned from here on. notes: lines for the user."""

    config: config.Config
    previous: config.Config | None
    changes: list
    notes: list


def agree(given: config.Config, logdir: Path, allowed: Iterable[str] = ()) -> Settings:
    """The settings of the run in `logdir` for a command that asks for `given`; writes nothing.

    allowed: keys of which the user says that they may change. Raises SettingsError where others differ, and for a run
    of a newer format; ConfigError where the saved config cannot be read.
    """
    _check_allowed(allowed)
    path = logdir / layout.CONFIG
    if not path.exists():
        return Settings(given, None, [], [])
    _check_format(logdir)
    if agent_only(logdir):
        raise SettingsError(
            f"{logdir} holds the agent of a run without what training needs (`dreamer export --form run`): `dreamer "
            f"eval` plays it, and --init_from {logdir} begins a new run with its networks in another --logdir"
        )
    saved = config.load_file(path)
    older = {key: was for key, was in config.filled_in(path).items() if given.flat()[key] == config.key(key).value}
    notes = [
        f"{logdir} is older than the key {key}: it goes on with {yaml(was)}, which is what it did until now."
        for key, was in older.items()
        if key in {changed[0] for changed in saved.diff(given)}
    ]
    given = given.replace(**{key: saved.flat()[key] for key in older})
    if saved.precision == "auto":  # releases up to 0.1 wrote down what was asked for
        saved = saved.replace(precision=_recorded_precision(logdir) or "auto")
    if given.precision == "auto":
        given = given.replace(precision=saved.precision)
    keys = {key.name: key for key in config.describe()}
    # What a run keeps that is older than a key: whoever does not name the key does not ask for its default.
    kept = {
        name: here
        for name, here, asked in saved.diff(given)
        if keys[name].resume != config.FREE and (here, asked) == (keys[name].before, keys[name].value)
    }
    given = given.replace(**kept)
    differing = [change for change in saved.diff(given) if keys[change[0]].resume != config.FREE]
    refused = [change for change in differing if change[0] not in allowed]
    if refused:
        raise SettingsError(_refusal(logdir, refused, keys))
    notes += [f"{key} is {yaml(new)} from here on, it was {yaml(old)}." for key, old, new in differing]
    return Settings(given, saved, differing, notes)


def settle(settings: Settings, logdir: Path, frames: int) -> None:
    """Write the settings into the run, and what changed at `frames` frames."""
    record = _record(logdir)
    record["changes"] += [{"frames": frames, "key": key, "from": old, "to": new} for key, old, new in settings.changes]
    with replacing(logdir / layout.RUN) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    settings.config.save(logdir / layout.CONFIG)


def agent_only(logdir: Path) -> bool:
    """Whether `logdir` holds the agent of a run without what training needs (training.agent_only)."""
    try:
        return _record(logdir).get("agent_only") is True
    except SettingsError:
        return False


def write_agent_only(logdir: Path, out: Path) -> None:
    """Write run.json of the run in `logdir` into `out`, and that nothing but its agent is there.

    Raises SettingsError for a run of a newer format, whose other files have been written in ours.
    """
    _check_format(logdir)
    record = {**_record(logdir), "agent_only": True}
    (out / layout.RUN).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def source_of(init_from: str) -> Path | None:
    """The log directory that the key init_from names; None where it names none."""
    return None if init_from == "none" else Path(init_from).expanduser()


def before(name: str) -> Any:
    """What runs did that are older than the key of this name; None for what has always been a key, or is none."""
    return next((key.before for key in config.describe() if key.name == name), None)


def yaml(value: object) -> str:
    """A value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_allowed(allowed: Iterable[str]) -> None:
    for name in allowed:
        if config.key(name).resume == config.FIXED:
            raise SettingsError(
                f"--resume.allow {name}: this key cannot change on a resume, it is part of what has been learned"
            )


def _check_format(logdir: Path) -> None:
    found = _record(logdir)["format"]
    if found != FORMAT:
        raise SettingsError(
            f"{logdir} has format {found}, and this release of dreamer ({__version__}) knows format {FORMAT}: go on "
            "with the release that made it, or a newer one"
        )


def _record(logdir: Path) -> dict[str, Any]:
    try:
        record = json.loads(formats.read(logdir / layout.RUN, formats.DOCUMENT_BYTES))
        if isinstance(record["format"], int) and isinstance(record["changes"], list):
            return record
    except formats.FormatError as error:
        if not isinstance(error, formats.MissingError):
            raise SettingsError(str(error)) from None
        return {"format": FORMAT, "dreamer": __version__, "changes": []}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise SettingsError(
        f'{logdir / layout.RUN} is damaged: expected {{"format": {FORMAT}, "dreamer": ..., "changes": [...]}}'
    )


def _recorded_precision(logdir: Path) -> str | None:
    """The precision of the last start, of a run that did not write it into its config."""
    try:
        lines = formats.read(logdir / layout.MACHINES, formats.LINES_BYTES).splitlines()
        return next(json.loads(line)["precision"] for line in reversed(lines) if line.strip())
    except (ValueError, TypeError, KeyError, StopIteration):
        return None


def _refusal(logdir: Path, refused: list[tuple[str, Any, Any]], keys: Mapping[str, config.Key]) -> str:
    told = [change for change in refused if keys[change[0]].resume == config.TOLD]
    fixed = [change for change in refused if change not in told]
    allow = f"--resume.allow {' '.join(key for key, _, _ in told)}"
    if not fixed:
        return (
            f"{logdir} holds a run with other settings ({_shown(told)}): {allow} to change what it learns from here "
            "on, the saved values to go on as before, or another --logdir to start a new one"
        )
    also = f", others only with {allow} ({_shown(told)})" if told else ""
    return (
        f"{logdir} holds a run with other settings, which cannot change on a resume ({_shown(fixed)}){also}: give the "
        "saved values to resume that run, or another --logdir to start a new one"
    )


def _shown(changes: list[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{key}: saved {yaml(old)}, given {yaml(new)}" for key, old, new in changes)
