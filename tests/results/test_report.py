import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from dreamer.results import aggregate, curves, published, report, runs, scores, style, video

CHEETAH = "dmc_cheetah_run"


def write_run(directory, *, task=CHEETAH, method="dreamer", seed=0, ys=(10.0, 50.0), settings="", **metrics):
    """A run that was evaluated at 50,000 and 105,000 frames, with everything that a run leaves but checkpoints."""
    directory.mkdir(parents=True)
    xs = [50_000, 105_000][: len(ys)]
    content = {"task": task, "method": method, "seed": seed, "xs": xs, "ys": list(ys)}
    (directory / "scores.json").write_text(json.dumps(content))
    (directory / "random.json").write_text('{"mean": 7.5, "std": 1.0, "episodes": 5}')
    (directory / "config.yaml").write_text(f"task: x\nseed: {seed}\nmodel:\n  deter: 200\n{settings}")
    lines = [
        {"step": 50_000, "train/updates": 400, "time/training": 0.5, "time/acting": 0.25, "time/seconds": 7200},
        {"step": 50_000, "eval/open_loop_image_error": 40.0 + seed, "eval/repeat_frame_image_error": 90.0},
        {"step": 105_000, "train/updates": 900, "time/training": 0.5, "time/seconds": 3600},
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    errors = {"image": [1.0 + seed, 3.0 + seed], "image_repeat": [2.0, 9.0], "reward": [0.5, 1.0]}
    last = {"step": 105_000, "context": 5, **errors, "reward_repeat": [0.25, None]}
    first = {**last, "step": 50_000, "image": [100.0, 100.0]}
    (directory / "open_loop.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
    machine = {"step": 0, "cpu": "a CPU", "cores": 2, "gpus": ["a GPU", "a GPU"], "precision": "bfloat16"}
    machine |= {"dreamer": "0.2.0", "commit": "0123456789abcdef", "clean": False}
    (directory / "machines.jsonl").write_text(f"{json.dumps(machine)}\n" * 2)
    change = {"frames": 60_000, "key": "actor.lr", "from": 8e-05, "to": 3e-05}
    (directory / "run.json").write_text(json.dumps({"format": 1, "changes": [change] * (seed == 1)}))
    frames = np.random.default_rng(seed).integers(0, 255, (3, 32, 64, 3), np.uint8)
    video.save_mp4(directory / "videos" / "0000105000-episode.mp4", frames, fps=25)
    # The last frame stays: a GIF stores that as a longer time.
    video.save_gif(directory / "videos" / "0000105000-open-loop.gif", frames[[0, 1, 2, 2]], fps=10)
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", seed=0)
    write_run(folder / "b", seed=1, ys=(20.0, 90.0))
    write_run(folder / "c", task="toy_dot", method="mine", settings="steps: 7\n", ys=(3.0,))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return report.write([folder], folder / "report.html")


def found(folder):
    """The runs in the order of their directories' names."""
    return sorted(runs.read(scores.find([folder])[0])[0], key=lambda run: run.scores.path)


def own_text(page):
    """The page without plotly's script, of which no address is ever opened, and without the videos."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<script>/\*\*\n\* plotly.js.*?</script>", "", text, flags=re.DOTALL)
    return re.sub(r"data:(video/mp4|image/png);base64,[\w+/=]+", "data:", text)


def cells(page, section):
    text = own_text(page)
    table = text[text.index(f'<section id="{section}">') :].partition("</table>")[0]
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row)] for row in rows][1:]


def test_scores_stand_beside_the_published_ones(page):
    curve = published.load().curve(CHEETAH)
    theirs = curve.mean[1]  # at 105,000 frames
    final = ["894.6", "496.1", "523.8", "213.9"]
    assert cells(page, "scores") == [
        ["Cheetah Run", "Dreamer", "70.0", "28.3", "2", "105,000", f"{theirs:.1f}", f"{70 / theirs:.2f}", *final],
        ["Dot", "mine", "3.0", "", "1", "50,000", *["–"] * 6],
    ]


def test_time_and_hardware(page):
    first, second, third = cells(page, "time")
    assert first == [
        "Cheetah Run",
        "Dreamer",
        "0",
        "105,000",
        "900",
        "3 h 00 min",
        "9.7",
        "",
        "2 x a GPU, a CPU, 2 cores, bfloat16",
        "0.2.0, commit 0123456789, changed",
    ]
    assert second[2] == "1"
    assert third[:2] == ["Dot", "mine"]
    # Of 10,800 seconds, training took half and acting a quarter of the first 7,200.
    assert re.findall(r'title="(.*?)"', own_text(page))[:3] == ["training: 50 %", "acting: 17 %", "other: 33 %"]


def test_settings_in_which_runs_differ(folder, page):
    settings = report.settings(found(folder))
    assert [[run.scores.seed for run in group] for group in settings["groups"]] == [[0, 1], [0]]
    assert settings["differ"] == [("steps", [None, "7"])]
    assert settings["shared"] == [("model.deter", "200")]
    assert cells(page, "settings") == [["steps", "–", "7"]]


def test_a_mean_over_different_settings_is_marked(tmp_path):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, settings="steps: 7\n")
    assert cells(report.write([tmp_path], tmp_path / "r.html"), "scores")[0][1] == "Dreamer"
    write_run(tmp_path / "c", seed=2, settings="precision: float16\n")
    assert cells(report.write([tmp_path], tmp_path / "r.html"), "scores")[0][1] == "Dreamer *"


def test_returns_beside_the_published_curve(folder):
    entries = [run.scores for run in found(folder)]
    cheetah, dot = report.return_charts(entries, published.load(), {CHEETAH: 7.5}, None)
    lines = {line["name"]: line for line in cheetah["lines"]}
    assert list(lines) == [
        "random actions",
        "Dreamer, published",
        "Dreamer, seed 0",
        "Dreamer, seed 1",
        "Dreamer, mean of 2",
    ]
    mean = lines["Dreamer, mean of 2"]
    assert (mean["xs"], mean["ys"], mean["spread"]) == ([50_000, 105_000], [15, 70], [7.0711, 28.284])
    longer = [run._replace(xs=[*run.xs, 200_000], ys=[*run.ys, 90.0]) if run.seed == 1 else run for run in entries]
    line = report.return_charts(longer, published.load(), {}, None)[0]["lines"][-1]
    assert (line["name"], line["ys"]) == ("Dreamer, mean of 2", [15, 70, None])
    curve = published.load().curve(CHEETAH)

    def theirs(lines):
        return [(line["xs"], line["ys"]) for line in lines if line["name"] == "Dreamer, published"]

    # No points between its own, and no line between few.
    assert theirs(cheetah["lines"]) == [([x], [y]) for x, y in zip(curve.xs[:2], curve.mean[:2], strict=True)]
    (long,) = report.return_charts([entries[0]._replace(xs=[1, 450_000])], published.load(), {}, None)
    assert theirs(long["lines"]) == [(curve.xs[:5].tolist(), curve.mean[:5].tolist()), ([505_000], [curve.mean[5]])]
    assert set(lines["random actions"]["ys"]) == {7.5}
    assert [(line["name"], line["color"]) for line in dot["lines"]] == [("mine", 1)]
    (early,) = report.return_charts([entries[0]._replace(xs=[1, 4000])], published.load(), {}, None)
    assert [line["name"] for line in early["lines"]] == ["Dreamer"]
    # A point that the runs nearly reach stands by itself.
    (nearly,) = report.return_charts([entries[0]._replace(xs=[1, 85_000])], published.load(), {}, None)
    assert [(line["name"], line["xs"]) for line in nearly["lines"]] == [
        ("Dreamer, published", [5000]),
        ("Dreamer, published", [105_000]),
        ("Dreamer", [1, 85_000]),
    ]


def test_errors_of_the_world_model_are_means_over_the_newest_evaluations(folder):
    (task, (image, reward, frames)), (other, _) = report.world_model_charts(found(folder))
    assert (task, other) == ("Cheetah Run", "Dot")
    assert [(line["xs"], line["ys"]) for line in image["lines"]] == [([1, 2], [1.5, 3.5]), ([1, 2], [2, 9])]
    assert [line["ys"] for line in reward["lines"]] == [[0.5, 1], [0.25, None]]
    assert [(line["xs"], line["ys"]) for line in frames["lines"]] == [([50_000], [40.5]), ([50_000], [90])]


def test_the_page_says_how_far_ahead_the_model_is_the_better_one(folder, page):
    (_, (image, reward, frames)), *_ = report.world_model_charts(found(folder))
    assert image["words"] == ["Dreamer is better than repeating the last image at all 2 imagined steps"]
    assert reward["words"] == ["Dreamer is not better than repeating the last reward at any of 2 imagined steps"]
    assert frames["words"] == []
    text = own_text(page)
    assert all(f"{words}.</p>" in text for words in image["words"] + reward["words"])


def test_a_model_that_imagines_no_images_has_its_errors_of_rewards(tmp_path):
    directory = write_run(tmp_path / "run")
    (directory / "open_loop.jsonl").write_text('{"step": 9, "context": 5, "reward": [0.5], "reward_repeat": [1]}\n')
    (directory / "metrics.jsonl").write_text("")
    ((_, (chart,)),) = report.world_model_charts(found(tmp_path))
    assert [line["ys"] for line in chart["lines"]] == [[0.5], [1]]


def test_videos_are_the_newest_ones_of_the_first_run(folder, tmp_path):
    cheetah, dot = report.videos(found(folder))
    assert (cheetah["run"].scores.seed, dot["run"].scores.task) == (0, "toy_dot")
    episode, prediction = (base64.b64decode(shown["uri"].partition(",")[2]) for shown in cheetah["shown"])
    assert episode == (folder / "a" / "videos" / "0000105000-episode.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(prediction)
    assert np.shape(imageio.mimread(tmp_path / "a.mp4")) == (4, 32, 64, 3)


def test_a_prediction_that_does_not_move_shows_its_last_step(folder, page):
    cheetah, _ = report.videos(found(folder))
    episode, prediction = (shown["still"] for shown in cheetah["shown"])
    assert episode is None
    still = np.asarray(Image.open(io.BytesIO(base64.b64decode(prediction.partition(",")[2]))).convert("RGB"), int)
    last = imageio.mimread(folder / "a" / "videos" / "0000105000-open-loop.gif")[-1][..., :3]
    assert np.abs(still - last).mean() < 12  # two palettes of noise
    assert f'<img src="{prediction}"' in page.read_text()


def test_the_mean_has_the_published_final_scores_too(tmp_path):
    for index, task in enumerate((CHEETAH, "dmc_quadruped_run")):
        write_run(tmp_path / str(index), task=task)
    write_run(tmp_path / "p", task=CHEETAH, method="planet")
    write_run(tmp_path / "q", task="dmc_walker_walk", method="planet")
    page = report.write([tmp_path], tmp_path / "r.html")
    assert [row[0] for row in cells(page, "scores")] == [
        *("Cheetah Run", "", "Quadruped Run", "Walker Walk", "Mean", ""),
    ]
    # D4PG and A3C have no score on Quadruped Run; each method has the means over its own tasks.
    assert [row[-4:] for row in cells(page, "scores")[-2:]] == [
        ["891.5", "388.3", "523.8of 1", "213.9of 1"],
        ["928.1", "720.4", "746.0", "262.4"],
    ]


def test_tasks_are_taken_together(tmp_path):
    tasks = (CHEETAH, "dmc_walker_walk")
    for task in tasks:
        for seed in (0, 1):
            write_run(tmp_path / task / str(seed), task=task, seed=seed, ys=(10.0, 40.0 + 20 * seed))
    page = report.write([tmp_path], tmp_path / "r.html")
    first, second, *_ = cells(page, "together")
    assert first[:2] == ["Dreamer (105K)", "50.040–60"]
    assert second == ["Dreamer, published (5M)", "928.1", "928.1", ""]
    entries = [run.scores for run in found(tmp_path)]
    summary, _ = aggregate.summarise(entries)
    curve, profile = report.together(summary, ["dreamer"], published.load())["charts"]
    (line,) = curve["lines"]
    assert (line["ys"][0], line["ys"][-1], line["low"][-1], line["high"][-1]) == (10, 50, 40, 60)
    (line,) = profile["lines"]
    assert (line["ys"][line["xs"].index(50)], line["ys"][0]) == (0.5, 1)
    assert all(low <= y <= high for low, y, high in zip(line["low"], line["ys"], line["high"], strict=True))
    one = report.write([tmp_path / CHEETAH], tmp_path / "one.html")
    assert 'id="together"' not in own_text(one)


def test_predictions_are_as_wide_as_a_phone_and_their_frame_is_called_by_its_colour(page):
    text = own_text(page)
    assert (
        re.findall(r"<figure([^>]*)>\s*<figcaption[^>]*>(Episode|Open-loop)", text)
        == [
            ("", "Episode"),
            (' class="prediction"', "Open-loop"),
        ]
        * 2
    )
    assert "(orange frame)" in text


def test_the_return_stands_beside_the_method_where_a_phone_shows_it(page):
    head = own_text(page).partition("</thead>")[0]
    assert re.findall(r"<th(?: [^>]*)?>([^<]*)", head)[:4] == ["Task", "Method", "Return", "± std"]


def test_a_video_that_is_broken_is_named_and_left_out(tmp_path, capsys):
    directory = write_run(tmp_path / "run")
    gif = directory / "videos" / "0000105000-open-loop.gif"
    for content in (b"", b"GIF89a", gif.read_bytes()[:200]):
        gif.write_bytes(content)
        (of_run,) = report.videos(found(tmp_path))
        assert [shown["caption"] for shown in of_run["shown"]] == ["Episode"]
        assert of_run["shown"][0]["return"] == 50
        (problem,) = capsys.readouterr().err.splitlines()
        assert problem.startswith(f"{gif}: cannot be shown (")


def test_the_page_needs_nothing_from_outside(page):
    text = own_text(page)
    assert len(text) < 100_000
    references = re.findall(r"(?:src|href|action|data)\s*=\s*[\"'](.*?)[\"']", text)
    assert [target for target in references if not target.startswith(("data:", "#"))] == []
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    assert page.stat().st_size < 6e6


def test_names_cannot_become_part_of_the_page(tmp_path):
    write_run(tmp_path / "run", task="</script><b>x", method='"><img src=x>')
    text = own_text(report.write([tmp_path], tmp_path / "r.html"))
    assert "<b>x" not in text.lower()
    assert "<img src=x" not in text


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes, apart from that all its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *(name for name, _ in attributes)))
        self.texts += [value for _, value in attributes if value]

    def handle_data(self, data):
        self.texts.append(data)


def hostile_page(folder, text):
    """A page about two runs in which every text that can be chosen is `text` of the field's name."""
    for seed in (0, 1):
        run = write_run(folder / text("folder") / str(seed), task=text("task"), method=text("method"), seed=seed)
        score = json.loads((run / "scores.json").read_text())
        (run / "scores.json").write_text(json.dumps({**score, "seed": text(f"seed{seed}")}))
        values = {
            text("shared"): text("value"),
            text("key"): text(f"differs{seed}"),
            "section": {text("inner"): [text("list")]},
        }
        (run / "config.yaml").write_text(json.dumps(values))
        machine = {"step": 0, "cpu": text("cpu"), "cores": text("cores"), "gpus": [text("gpu")] * 2}
        machine |= {"precision": text("precision"), "dreamer": text("version"), text("other"): text("other")}
        machine |= {"commit": text("commit"), "clean": text("clean")}
        (run / "machines.jsonl").write_text(json.dumps(machine) + "\n")
        lines = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(
            lines + json.dumps({"step": 1, f"time/{text('part')}": 1, text("metric"): 2}) + "\n"
        )
    return Structure(own_text(report.write([folder], folder / "r.html")))


@pytest.mark.parametrize(
    "pattern",
    [
        "<script>alert('{}')</script>",
        "\"' onload=\"alert('{}')\" x='",
        "</title></script></style><img src=x onerror={}>",
        "--></div>&lt;b&gt;{}&#60;b&#62;",
        "{{{{ {} }}}} {{% raw %}} ${{{}}} `{}`",
    ],
)
def test_every_text_out_of_a_file_is_text_on_the_page(tmp_path, pattern):
    plain = hostile_page(tmp_path / "plain", lambda field: f"x {field}")
    # A folder's name holds no slash.
    page = hostile_page(
        tmp_path / "hostile", lambda field: pattern.format(*[field] * 3).replace("/", "/" * (field != "folder"))
    )
    assert page.tags == plain.tags
    shown = "\n".join(page.texts).casefold()
    fields = (
        "task",
        "method",
        "seed0",
        "seed1",
        "shared",
        "value",
        "key",
        "differs0",
        "differs1",
        "inner",
        "cpu",
        "gpu",
    )
    for field in (*fields, "cores", "precision"):
        text = pattern.format(*[field] * 3).casefold()
        assert text in shown or json.dumps(text)[1:-1] in shown, field


def test_names_of_lines_are_text_to_plotly_which_reads_tags(page):
    text = own_text(page)
    assert 'const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");' in text
    assert re.findall(r"name: (\S+),", text).count("plain(line.name)") == len(re.findall(r"name: \S*line", text)) == 1


def test_videos_that_are_no_videos_or_too_large(tmp_path, capsys, monkeypatch):
    directory = write_run(tmp_path / "run")
    monkeypatch.setattr(report, "PREDICTION_PIXELS", 4 * 32 * 64)
    assert len(report.videos(found(tmp_path))[0]["shown"]) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(report, "PREDICTION_PIXELS", 4 * 32 * 64 - 1)
    (of_run,) = report.videos(found(tmp_path))
    assert [shown["caption"] for shown in of_run["shown"]] == ["Episode"]
    gif = directory / "videos" / "0000105000-open-loop.gif"
    assert capsys.readouterr().err == (f"{gif}: cannot be shown (more than 8,191 pixels in all): left out\n")
    monkeypatch.setattr(report, "PREDICTION_FRAMES", 3)
    assert len(report.videos(found(tmp_path))[0]["shown"]) == 1
    assert "(more than 3 frames in all)" in capsys.readouterr().err
    monkeypatch.setattr(report, "VIDEO_BYTES", 10)
    assert report.videos(found(tmp_path))[0]["shown"] == []
    assert capsys.readouterr().err.count(" bytes, at most 10 are read: left out\n") == 2


def test_more_tasks_or_methods_than_a_page_takes(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(report, "TASKS", 1)
    with pytest.raises(
        ValueError, match=r"^2 tasks are too many for one page, which takes 1: choose some with --tasks, "
    ):
        report.write([folder], tmp_path / "r.html")
    report.write([folder], tmp_path / "r.html", tasks=["dot"])
    monkeypatch.setattr(report, "TASKS", 2)
    monkeypatch.setattr(report, "METHODS", 1)
    with pytest.raises(ValueError, match="^2 methods are too many"):
        report.write([folder], tmp_path / "r.html")


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "run").mkdir()
    content = {"task": "toy_dot", "method": "dreamer", "seed": 0, "xs": [100], "ys": [1.5]}
    (tmp_path / "run" / "scores.json").write_text(json.dumps(content))
    text = own_text(report.write([tmp_path], tmp_path / "r.html"))
    assert re.findall(r'<section id="(.*?)"', text) == ["scores", "curves"]
    assert "Published" not in text


def test_bad_input(tmp_path, folder):
    for out in ("report.txt", "report"):
        with pytest.raises(ValueError, match=r"the report is one file that ends with \.html$"):
            report.write([folder], tmp_path / out)
    with pytest.raises(ValueError, match="^nothing to show"):
        report.write([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (99, "99 s"), (101, "2 min"), (5939, "99 min"), (6000, "1 h 40 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


@pytest.fixture(scope="module")
def browser(tmp_path_factory, unavailable):
    """Run headless Chromium on a page without any network; returns what it prints."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        unavailable("chromium is not installed")
    profile = tmp_path_factory.mktemp("profile")

    def browse(page, scheme, *options):
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,1400", "--hide-scrollbars"]
        command += [f"--blink-settings=preferredColorScheme={('dark', 'light').index(scheme)}"]
        command += ["--enable-logging=stderr", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr  # what the page's scripts complain about
        return done.stdout

    return browse


def test_curves_are_drawn_in_the_colours_of_a_dark_page_and_can_be_hovered(page, browser, tmp_path):
    script = """<script>
    Plotly.Fx.hover(document.querySelector(".plot"), {xval: 105000});
    const texts = document.querySelectorAll(".hoverlayer text");
    document.body.dataset.hover = [...texts].map((text) => text.textContent).join("|");
    document.body.dataset.page = getComputedStyle(document.body).backgroundColor;
    </script></body>"""
    copy = tmp_path / "report.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    dom = browser(copy, "dark", "--dump-dom")
    # Two learning curves, and three charts of the world model for each of two tasks.
    assert len(re.findall(r'<div class="plot js-plotly-plot"', dom)) == 8
    assert len(re.findall(r'class="xtitle"', dom)) == 8
    assert dom.count("rgb(74, 168, 232)") > 8
    assert 'data-page="rgb(20, 23, 26)"' in dom
    hover = re.search(r'data-hover="(.*?)"', dom)[1].split("|")
    assert hover[0] == "105,000"
    assert "Dreamer, mean of 2 : 70 ± 28.3" in hover
    assert "random actions : 7.5" in hover


def test_each_method_has_the_dark_form_of_its_colour_on_a_dark_page(tmp_path):
    methods = ["contrastive", *(f"m{n}" for n in range(7))]
    entries = [{"task": CHEETAH, "method": method, "seed": 0, "xs": [5], "ys": [1.0]} for method in methods]
    (tmp_path / "scores.json").write_text(json.dumps(entries))
    text = report.write([tmp_path], tmp_path / "report.html").read_text()
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    light, dark = (re.findall(r"--c(\d+): (#\w+);", part.split("@media print")[0]) for part in (light, dark))
    assert light[0] == ("0", style.COLORS[list(curves.NAMES).index("contrastive")])
    assert len(light) == len(methods)
    assert dark == [(place, style.DARK[style.COLORS.index(color)]) for place, color in light]


def test_a_picture_of_the_light_page(page, browser, tmp_path):
    browser(page, "light", f"--screenshot={tmp_path / 'page.png'}")
    image = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert image.shape == (1400, 1200, 3)
    assert (image == 255).all(-1).mean() > 0.7
    for color in ((0, 114, 178), (213, 94, 0)):  # the curves of two methods
        assert (np.abs(image - color).max(-1) <= 3).sum() > 100


def test_settings_that_changed_on_the_way_are_told(page):
    text = " ".join(page.read_text().split())
    assert text.count("<li>Cheetah Run, Dreamer, seed 1, at 60000 frames: actor.lr from 8e-05 to 3e-05</li>") == 1
    assert text.count("actor.lr from") == 1
