"""Hours and disk by hand."""

from pathlib import Path

import pytest

from dreamer.cli import main as cli
from dreamer.config import load
from dreamer.results import published
from dreamer.run import formats, lock
from dreamer.sweep import estimate, plan

DOCS = Path(__file__).resolve().parents[2] / "docs"
FULL = load(["dmc"])


def test_disk_of_a_run_as_the_guide_has_it():
    """docs/troubleshooting.md: 31.1 GB of episodes for 5 million frames of walker_walk, and 1.4 GB of videos."""
    episodes = 2.5e6 * 12_424
    assert estimate.disk(FULL) == pytest.approx(episodes + 0.3e9 + 500 * 2.8e6, rel=1e-6)
    assert episodes == pytest.approx(31.1e9, rel=0.005)
    kept = FULL.replace(**{"replay.capacity": 500_000})
    assert estimate.disk(FULL) - estimate.disk(kept) == pytest.approx(2e6 * 12_424)
    packed = FULL.replace(**{"replay.compress": True})
    assert estimate.disk(FULL) - estimate.disk(packed) == pytest.approx(episodes * 3 / 4)


def test_hours_of_full_size_by_hand():
    updates = 100 + 5000 * 100
    slow, quick = estimate.hours(FULL.replace(xla="false")), estimate.hours(FULL.replace(xla="true"))
    beside = 2.5e6 * 0.0052 + 500 * 500 * 0.02
    assert quick.gpu == pytest.approx((updates * 0.033 + beside) / 3600)
    assert slow.gpu == pytest.approx((updates * 0.13 + beside) / 3600)
    assert 8 < quick.gpu < 12
    assert slow.cpu == pytest.approx((updates * 1.9 + (2.5e6 + 500 * 500) * 0.025) / 3600)
    assert estimate.hours(load(["dmc", "small"])) == (None, None)
    assert estimate.hours(load(["dmc", "planet"])) == (None, None)


def test_what_was_measured_counts_for_runs_with_the_same_settings(tmp_path):
    jobs = plan.plan(
        ["toy"], {"steps": "7200"}, tasks=["dot", "dot_discrete"], settings={"actor.lr": ["1e-4", "2e-4"]}, out=tmp_path
    )
    assert estimate.measured(jobs, [1.0, None, 3.0, None]) == [1.0, None, 1.0, None]
    lines = estimate.to_text(jobs, [1.0, None, 1.0, None]).splitlines()
    assert lines[1].split() == ["0", "actor.lr=1e-4/toy_dot/dreamer/0", "7,200", "0.2", "GB", "1.0", "-", "-"]
    assert lines[-1].split() == ["4", "runs", "28,800", "0.7", "GB", "-", "-", "-"]


def test_the_page_about_the_paper_says_what_a_dry_run_says():
    page = (DOCS / "replication.md").read_text(encoding="utf-8")
    slow, quick = estimate.hours(FULL.replace(xla="false")), estimate.hours(FULL.replace(xla="true"))
    assert f"| {quick.gpu:.1f} hours | {slow.gpu:.0f} hours | {slow.cpu / 24:.0f} days |" in page
    assert f"| {estimate.disk(FULL) / 1e9:.1f} GB | " in page
    # Final scores: those of runs/published, for each task of the group, in its order.
    scores = published.load()
    rows = [(task, scores.scores(f"dmc_{task}")) for task in plan.find_tasks("dmc", ["dmc20"])]
    lines = [f"| `{task}` | {of['dreamer']:.1f} | {of['planet']:.1f} |" for task, of in rows]
    assert "\n".join(lines) in page


def test_the_job_of_kubernetes_is_a_sweep_with_as_many_runs(tmp_path, monkeypatch, capsys):
    job = formats.yaml_tree(DOCS / "kubernetes.yaml")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    *words, option, index = container["args"]
    assert (option, index) == ("--index", "$(JOB_COMPLETION_INDEX)")
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "--dry-run"]) == 0
    assert f"{job['completions']} runs" in capsys.readouterr().out
    codes = {tuple(rule["onExitCodes"]["values"]) for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule}
    assert codes == {(lock.IN_USE, 143), (2,)}
