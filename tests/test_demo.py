import json

from dreamer import demo


def finished_run(run):
    (run / "videos").mkdir(parents=True)
    (run / "random.json").write_text(json.dumps({"mean": 12.34, "std": 1.0, "episodes": 3}))
    scores = {"task": "dmc_walker_stand", "method": "dreamer", "seed": 0, "xs": [3000, 16000], "ys": [20.0, 345.6]}
    (run / "scores.json").write_text(json.dumps(scores))
    for frames in (3000, 16000):
        for kind in ("episode.mp4", "open-loop.gif"):
            (run / "videos" / f"{frames:010d}-{kind}").write_text(f"{kind} at {frames}")


def test_the_demo_ends_with_three_returns_and_what_to_look_at(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = []

    def train(words):
        commands.append(words)
        finished_run(demo.OUT / demo.TASK)
        return 0

    monkeypatch.setattr(demo.cli, "main", train)
    assert demo.main(["--seed", "5"]) == 0
    assert commands[0][:4] == ["train", "--configs", "dmc", "small"]
    assert commands[0][-2:] == ["--seed", "5"]
    text = capsys.readouterr().out
    for line in ("random policy", "12.3", "at 3,000 frames", "345.6", "at 16,000 frames"):
        assert line in text
    assert (demo.OUT / "curve.png").stat().st_size > 5000
    assert (demo.OUT / "open-loop.gif").read_text() == "open-loop.gif at 16000"
    assert (demo.OUT / "episode.mp4").read_text() == "episode.mp4 at 16000"


def test_a_demo_that_stops_says_nothing_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.cli, "main", lambda words: 130)
    assert demo.main([]) == 130
    assert "random policy" not in capsys.readouterr().out
