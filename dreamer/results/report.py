"""`dreamer report`: one HTML page about any number of runs, which needs no other file and no network.

The page is report.html, a template; what follows computes its tables and the points of its curves. plotly draws the
curves when the page is opened, so that they can be hovered and enlarged.
"""

import base64
import io
import math
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image, ImageSequence, UnidentifiedImageError
from plotly.offline import get_plotlyjs

from dreamer.results import compare, curves, horizon, published, runs, style, video
from dreamer.results.runs import Run
from dreamer.results.scores import Scores
from dreamer.run import formats
from dreamer.run.files import replacing
from dreamer.run.formats import FormatError

if TYPE_CHECKING:
    from dreamer.results import aggregate

TEMPLATE = Path(__file__).with_name("report.html")
IMAGE_ERROR, REPEAT_ERROR = "eval/open_loop_image_error", "eval/repeat_frame_image_error"
PREDICTION_FPS = 10
TASKS, METHODS = 150, 24  # on one page: all tasks of the paper's suites, and of Atari
VIDEO_BYTES = 32 * 2**20  # an episode of 1000 steps has one or two MB
PREDICTION_FRAMES, PREDICTION_PIXELS = 5000, 2 * 10**8  # in all: half a minute of 1000 x 600
HOVERED = 61  # points of a straight line
PARTS = {  # of a run's time, in the order in which they are shown, with their colours
    "training": style.COLORS[0],
    "acting": style.COLORS[1],
    "evaluation": style.COLORS[2],
    "waiting_for_data": style.COLORS[3],
    "saving": style.COLORS[4],
    "other": "#a8a8a8",
}


def write(
    paths: Iterable[Path],
    out: Path,
    *,
    tasks: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    group_by: Iterable[str] = (),
    window: float | None = None,
) -> Path:
    """Write the page about all runs at or below `paths` to `out`, an .html file, in one step; returns `out`.

    tasks, methods, group_by, window: as in curves.collect and curves.align. Files that cannot be used are left out with
    one line each on stderr. Raises ValueError if no run is left or out has another suffix.
    """
    out = Path(out)
    if out.suffix not in (".html", ".htm") or out.is_dir():
        raise ValueError(f"{formats.shown(out)}: the report is one file that ends with .html")
    entries = curves.collect(paths, tasks, methods, group_by)
    curves.refuse_many(entries, tasks=TASKS, methods=METHODS, what="one page")
    found, problems = runs.read(entries)
    references, more = curves.random_returns(entries)
    curves.complain(problems + more)
    page = render(found, published.load(), references, window)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def render(
    found: list[Run], theirs: published.Published, references: dict[str, float], window: float | None = None
) -> str:
    """The page. references: mean return of random actions per task. Names bad videos on stderr and leaves them out."""
    methods = curves.methods_of(run.scores for run in found)
    found = sorted(
        found,
        key=lambda run: (run.scores.task, methods.index(run.scores.method), *curves.seed_order(run.scores)),
    )
    entries = [run.scores for run in found]
    table = compare.rows(entries, theirs, window)
    # Here, because the libraries behind it take seconds to load, and the demo needs no more of this module than times.
    from dreamer.results import aggregate

    summary, notes = aggregate.summarise(entries, window)
    curves.complain(notes)
    colors = [look["color"] for look in style.method_styles(methods).values()]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"human": curves.human, "duration": duration, "task": curves.title, "method": curves.label}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        runs=found,
        tasks=curves.tasks_of(entries),
        methods=methods,
        colors=colors,
        dark_colors=[style.DARK[style.COLORS.index(color)] for color in colors],
        rows=table,
        totals=[(of, compare.final_means(of.tasks, theirs)) for of in compare.totals(table)],
        published=theirs,
        begins=min((row.published_from for row in table if row.published_from), default=None),
        has_published=any(theirs.scores(row.task) for row in table),
        has_random=bool(references),
        mixed=runs.mixed_settings(found),
        returns=return_charts(entries, theirs, references, window),
        together=together(summary, methods, theirs) if summary else None,
        world_model=world_model_charts(found),
        modelled={run.scores.method for run in found if run.open_loop or IMAGE_ERROR in run.metrics},
        videos=videos(found),
        settings=settings(found),
        times=times(found),
        parts=PARTS,
        plotly=Markup(get_plotlyjs()),  # the library's own script, without an end tag in it
    )


def return_charts(
    entries: list[Scores], theirs: published.Published, references: dict[str, float], window: float | None
) -> list[dict]:
    """One chart per task: mean and standard deviation of each method, its runs, the published curve, random actions."""
    charts, methods, groups = [], curves.methods_of(entries), curves.grouped(entries)
    for task in curves.tasks_of(entries):
        lines = []
        right = max(max(run.xs) for run in entries if run.task == task)
        if task in references:
            # Only points can be hovered, so that a straight line gets some on the way.
            grid, ys = np.linspace(0, right, HOVERED), np.full(HOVERED, references[task])
            lines.append(_line("random actions", grid, ys, color="grey", kind="reference"))
        if curve := theirs.curve(task):
            lines += _published_lines(curve, right)
        for method in reversed(methods):  # the first method lies on top
            if not (group := groups.get((task, method))):
                continue
            xs, ys = curves.align(group, window=window)
            mean, std = curves.spread(ys)
            color, name = methods.index(method), curves.label(method)
            if len(group) > 1:
                for run, row in zip(group, ys, strict=True):
                    lines.append(_line(f"{name}, seed {run.seed}", xs, row, color=color, kind="run"))
                name = f"{name}, mean of {len(group)}"
                mean = np.where(curves.shared(ys), mean, np.nan)
            lines.append(_line(name, xs, mean, color=color, spread=std))
        charts.append(_chart(curves.title(task), "Environment frames", "Evaluation return", lines, frames=True))
    return charts


def together(summary: "aggregate.Summary", methods: list[str], theirs: published.Published) -> dict:
    """Several tasks taken together, as `dreamer plot` draws them: an aggregate.Summary as a table and two charts.

    rows: (what it is, index of its colour or None, {statistic: aggregate.Estimate}).
    """
    from dreamer.results import aggregate

    rows: list[tuple] = [
        (aggregate.row_label(key, of), methods.index(key), of.final) for key, of in summary.methods.items()
    ]
    rows += [(text, None, final) for text, final in aggregate.published_rows(summary, theirs)]
    curve, profile = [], []
    for key, of in reversed(summary.methods.items()):
        name, color = curves.label(key), methods.index(key)
        curve.append(_line(name, of.xs, of.curve.value, color=color, band=of.curve[1:]))
        profile.append(_line(name, aggregate.THRESHOLDS, of.profile.value, color=color, band=of.profile[1:]))
    return {
        "words": aggregate.in_words(summary),
        "statistics": list(aggregate.STATISTICS),
        "rows": rows,
        "charts": [
            _chart("IQM against frames", "Environment frames", "Return", curve, frames=True),
            _chart("Performance profile", "Return", "Share of runs above", profile),
        ],
    }


def world_model_charts(found: list[Run]) -> list[tuple[str, list[dict]]]:
    """Per task: open-loop errors of all that is predicted against the horizon, and of the image while the run went on.

    Each is the mean over the runs of a method. Repeating what was last observed is what the model must beat: a chart
    against the horizon has "words", a line for each method that says where it does.
    """
    tasks, methods = curves.tasks_of(run.scores for run in found), curves.methods_of(run.scores for run in found)
    charts: dict[str, list[dict]] = {task: [] for task in tasks}
    for task in tasks:
        groups = {
            method: [run for run in found if (run.scores.task, run.scores.method) == (task, method)]
            for method in methods
        }
        known_of = [
            name for group in groups.values() for run in group for name in map(runs.predicted, run.open_loop[-1:])
        ]
        for what in dict.fromkeys(name for names in known_of for name in names):
            lines = []
            for color, group in enumerate(groups.values()):
                if last := [run.open_loop[-1] for run in group if run.open_loop and what in run.open_loop[-1]]:
                    lines += _horizon_lines(last, what, curves.label(methods[color]), color)
            if lines:
                title = f"{what.capitalize()}, against the imagined step"
                chart = _chart(title, "Imagined step", f"{what.capitalize()} error", lines)
                charts[task].append(chart | {"words": _horizon_words(lines, what)})
        lines = []
        for color, group in enumerate(groups.values()):
            for key, name, kind in (
                (IMAGE_ERROR, curves.label(methods[color]), "method"),
                (REPEAT_ERROR, "repeating the last image", "repeat"),
            ):
                known = [(run, *run.metrics[key]) for run in group if key in run.metrics]
                if known := [run.scores._replace(xs=list(xs), ys=list(ys)) for run, xs, ys in known]:
                    xs, ys = curves.align(known)
                    lines.append(_line(name, xs, curves.spread(ys)[0], color=color, kind=kind))
        if lines:
            charts[task].append(
                _chart("Image, against frames", "Environment frames", "Image error", lines, frames=True)
            )
    return [(curves.title(task), of) for task, of in charts.items() if of]


def videos(found: list[Run]) -> list[dict]:
    """Of the first run of each method on each task that has videos: the newest episode and prediction, as data URIs.

    "still" is what is seen of a prediction that does not move, its last step: at the first the model still sees.
    """
    firsts: dict[tuple[str, str], Run] = {}
    for run in found:
        if run.episode or run.prediction:
            firsts.setdefault((run.scores.task, run.scores.method), run)
    of_runs = []
    for run in firsts.values():
        returns = dict(zip(run.scores.xs, run.scores.ys, strict=True))
        shown = []
        for path, caption, read in (
            (run.episode, "Episode", lambda path: (_mp4(path), None)),
            (run.prediction, "Open-loop prediction", _prediction),
        ):
            if path is None:
                continue
            try:
                content, still = read(path)
            except FormatError as error:
                curves.complain([f"{error}: left out"])
                continue
            except Exception as error:  # Pillow has errors of its own, and lets others through
                problem = formats.one_line(error) or type(error).__name__
                curves.complain([f"{formats.shown(path)}: cannot be shown ({problem:.200})"])
                continue
            frames = runs.frames_of(path)
            shown.append(
                {
                    "caption": caption,
                    "prediction": path == run.prediction,
                    "frames": frames,
                    "return": returns.get(frames) if path == run.episode else None,
                    "uri": content and _data_uri("video/mp4", content),
                    "still": still and _data_uri("image/png", still),
                }
            )
        of_runs.append({"run": run, "shown": shown})
    return of_runs


def settings(found: list[Run]) -> dict:
    """Groups of runs with equal settings, the keys in which the groups differ, and those that all share."""
    groups = defaultdict(list)
    for run in found:
        if run.settings:
            groups[_own_settings(run)].append(run)
    values = [dict(own) for own in groups]
    keys = list(dict.fromkeys(key for of in values for key in of))
    differ = runs.differences(values)
    return {
        "groups": list(groups.values()),
        "differ": list(differ.items()),
        "shared": [(key, values[0][key]) for key in keys if key not in differ],
        "changed": [(run, change) for run in found for change in run.changes],
    }


def times(found: list[Run]) -> list[dict]:
    """Of every run that has metrics: updates, frames a second, shares of its time, machines and software."""
    rows = []
    for run in found:
        if not run.metrics:
            continue
        unknown = sum(amount for name, amount in run.parts.items() if name not in PARTS)
        amounts = {name: run.parts.get(name, 0) for name in PARTS}
        amounts["other"] += unknown
        updates = run.metrics.get("train/updates")
        rows.append(
            {
                "run": run,
                "updates": max(updates[1]) if updates else None,
                "speed": run.frames / run.seconds if run.seconds else None,
                "shares": [(name, amount / run.seconds) for name, amount in amounts.items() if amount],
                "machines": list(dict.fromkeys(filter(None, map(runs.machine_in_words, run.machines)))),
                "software": list(dict.fromkeys(filter(None, map(runs.software_in_words, run.machines)))),
            }
        )
    return rows


def duration(seconds: float) -> str:
    """Short form of a time: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _chart(title: str, x: str, y: str, lines: list[dict], frames: bool = False) -> dict:
    return {"title": title, "x": x, "y": y, "lines": lines, "frames": frames, "words": []}


def _line(
    name: str,
    xs: Any,
    ys: Any,
    *,
    color: int | str,
    kind: str = "method",
    spread: np.ndarray | None = None,
    band: Any = (None, None),
) -> dict:
    """spread: a deviation on either side; band: lower and upper ends of an interval. None where there is none."""
    line = {"name": name, "color": color, "kind": kind, "xs": _numbers(xs), "ys": _numbers(ys)}
    if spread is not None and np.isfinite(spread).any():
        line["spread"] = _numbers(spread)
        band = (ys - spread, ys + spread)
    if band[0] is not None:
        line["low"], line["high"] = map(_numbers, band)
    return line


def _published_lines(curve: published.Curve, right: float) -> list[dict]:
    """The curve up to `right` frames, a few points of it by themselves, as is the next one that the runs nearly reach.

    Its own points alone: a number that is hovered between them would look like one that was published.
    """
    count, ahead = int((curve.xs <= right).sum()), curve.ahead_of(right)
    alone = [*(range(count) if count <= published.FEW_POINTS else ()), *([] if ahead is None else [ahead])]
    parts = [slice(0, count)] * (count > published.FEW_POINTS) + [slice(index, index + 1) for index in alone]
    look: dict[str, Any] = {"color": "ink", "kind": "published"}
    return [
        _line("Dreamer, published", curve.xs[part], curve.mean[part], spread=curve.std[part], **look) for part in parts
    ]


def _numbers(values: Any) -> list:
    """For JSON: five significant digits, null for what is not finite."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in np.asarray(values, float).tolist()]


def _horizon_lines(last: list[dict], what: str, name: str, color: int) -> list[dict]:
    """The error of a method's runs at their newest evaluations, and that of repeating what was last observed."""
    steps = min(len(line[key]) for line in last for key in (what, f"{what}_repeat"))
    return [
        _line(
            text,
            np.arange(1, steps + 1),
            curves.spread(np.stack([runs.errors(line, key)[:steps] for line in last]))[0],
            color=color,
            kind=kind,
        )
        for key, text, kind in (
            (what, name, "method"),
            (f"{what}_repeat", f"repeating the last {what}", "repeat"),
        )
    ]


def _horizon_words(lines: list[dict], what: str) -> list[str]:
    """A sentence for each pair of a method's line and that of repeating, as _horizon_lines has them."""
    return [
        f"{model['name']} is {horizon.in_words(model['ys'], repeat['ys'], what)}"
        for model, repeat in zip(lines[::2], lines[1::2], strict=True)
    ]


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _mp4(path: Path) -> bytes:
    """An MP4 as it is. Raises FormatError."""
    content = formats.read(path, VIDEO_BYTES)
    if content[4:8] != b"ftyp":
        raise FormatError(f"{formats.shown(path)}: cannot be shown (it is no MP4)")
    return content


def _prediction(path: Path) -> tuple[bytes | None, bytes]:
    """A GIF as in `_as_mp4_and_still`; of a PNG, curves of vectors, only the still. Raises as that does."""
    if path.suffix != ".png":
        return _as_mp4_and_still(path)
    content = formats.read(path, VIDEO_BYTES)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.verify()
    return None, content


def _as_mp4_and_still(path: Path) -> tuple[bytes, bytes]:
    """A GIF as MP4, a tenth of its size and can be paused, and its last frame as PNG.

    Raises FormatError, and what Pillow raises.
    """
    content, still = io.BytesIO(formats.read(path, VIDEO_BYTES)), io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
        try:
            image = Image.open(content, formats=["GIF"])
        except UnidentifiedImageError as error:
            raise FormatError(f"{formats.shown(path)}: cannot be shown (it is no GIF)") from error
        with image:
            video.save_mp4(Path(folder) / "video.mp4", _frames(image, formats.shown(path)), fps=PREDICTION_FPS)
            # What comes after the last frame has moved the image there.
            image.convert("RGB").quantize(255).save(still, "PNG", optimize=True)
        return (Path(folder) / "video.mp4").read_bytes(), still.getvalue()


def _frames(image: Image.Image, where: str) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] of a GIF, which stores equal ones in a row as one that is shown for longer."""
    shown, pixels = 0, 0
    for frame in ImageSequence.Iterator(image):
        times = max(1, round(frame.info.get("duration", 0) * PREDICTION_FPS / 1000))
        shown, pixels = shown + times, pixels + times * frame.width * frame.height
        for count, most, unit in ((shown, PREDICTION_FRAMES, "frames"), (pixels, PREDICTION_PIXELS, "pixels")):
            if count > most:
                raise FormatError(f"{where}: cannot be shown (more than {most:,} {unit} in all)")
        yield from [np.asarray(frame.convert("RGB"))] * times


def _own_settings(run: Run) -> tuple[tuple[str, str], ...]:
    """(key, value in words) of everything but the run's identity, in the order of the file."""
    return tuple((key, runs.in_words(value)) for key, value in run.settings.items() if key not in runs.IDENTITY)
