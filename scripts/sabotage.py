"""Usage: python scripts/sabotage.py. Breaks one equation at a time and shows that tests/test_learning.py would notice.

Every sabotage trains both tasks of the toy suite in processes of their own, as the test does, and prints what part of
the best return was reached; 90 % is a pass. Takes about half an hour on 2 cores.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dreamer.agents import dreamer as agent  # noqa: E402
from dreamer.behavior.returns import lambda_return  # noqa: E402
from dreamer.cli.main import main as dreamer  # noqa: E402
from dreamer.envs import toy  # noqa: E402
from dreamer.replay.dataset import Windows  # noqa: E402
from dreamer.world_model.rssm import RSSM  # noqa: E402
from tests.test_learning import fraction_of_the_best, words  # noqa: E402


def no_bootstrap():
    """Returns end with the horizon: no value beyond it, and none in between."""
    agent.lambda_return = lambda reward, value, discount, _: lambda_return(reward, 0 * value, discount, 1.0)


def no_dynamics_gradient():
    """Imagined states do not pass gradients on to the actions that led to them."""
    step = RSSM.img_step

    def cut(self, state, action, noise):
        return step(self, state, tf.stop_gradient(action), noise)

    RSSM.img_step = cut


def shift_rewards(by, axis):
    """Every reward of a batch stands `by` steps later (axis 1), or in the sequence `by` places further on (axis 0)."""
    dataset = Windows.dataset

    def shifted(self):
        return dataset(self).map(lambda batch: batch._replace(reward=tf.roll(batch.reward, by, axis)))

    Windows.dataset = shifted


# A dot that has come to the goal stays there, and the recurrent state remembers the steps before: this task is learned
# with rewards that are some steps early or late as well. tests/test_alignment.py is what notices these.
SABOTAGES = {
    "none": lambda: None,
    "no bootstrap": no_bootstrap,
    "no gradient through the dynamics": no_dynamics_gradient,
    "rewards six steps early": lambda: shift_rewards(-6, axis=1),
    "rewards of the next sequence": lambda: shift_rewards(-1, axis=0),
}


def main():
    """Run all sabotages, or the one that --only and --task name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SABOTAGES)
    parser.add_argument("--task", choices=toy.TASKS)
    arguments = parser.parse_args()
    if arguments.only and arguments.task:
        SABOTAGES[arguments.only]()
        with tempfile.TemporaryDirectory() as folder:
            dreamer(words(arguments.task, folder))
            print(f"fraction {fraction_of_the_best(arguments.task, Path(folder)):.3f}")
        return
    for name in [arguments.only] if arguments.only else SABOTAGES:
        for task in [arguments.task] if arguments.task else toy.TASKS:
            command = [sys.executable, __file__, "--only", name, "--task", task]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            fraction = float(done.stdout.rsplit("fraction ", 1)[1])
            verdict = "pass" if fraction >= 0.9 else "fail"
            print(f"{name:<34}{task:<14}{100 * fraction:5.1f} % of the best return: {verdict}", flush=True)


if __name__ == "__main__":
    main()
