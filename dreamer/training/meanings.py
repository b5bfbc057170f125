"""What each metric of a run is, in a few words and with its unit: what TensorBoard shows beside its curve.

docs/files-of-a-run.md has them as tables, docs/what-ails-a-run.md what each tells of a run.
"""

import re

_MEANINGS = {
    r"train/image_loss": "-ln p(image), nats a step; 11,291.9 is the floor of 64x64 pixels",
    r"train/state_loss": "Contrastive loss in the place of the image's (eq. 12), nats a step",
    r"train/vector_(.+)_loss": "-ln p(symlog({})), nats a step",
    r"train/probe_loss": "-ln p(image) of a decoder that only looks on, nats a step",
    r"train/reward_loss": "-ln p(reward), nats a step; 0.919 is the floor",
    r"train/discount_loss": "Scaled cross-entropy of the discount, nats a step",
    r"train/kl": "KL divergence from prior to posterior, nats a step",
    r"train/kl_loss": "KL divergence that the free nats leave, scaled, nats a step",
    r"train/model_loss": "Sum of the world model's losses, nats a step",
    r"train/prior_entropy": "Entropy of the stochastic state before the image is seen, nats",
    r"train/posterior_entropy": "Entropy of the stochastic state after the image is seen, nats",
    r"train/(.+)_grad_norm": "Global norm of the gradient of the {} before clipping",
    r"train/(.+)_skipped": "Share of updates that left the {} as it was, because its gradient was not finite",
    r"train/actor_loss": "Minus the weighted imagined return, in reward",
    r"train/value_loss": "-ln p(return) under a Normal around the value, weighted, nats",
    r"train/imagined_reward": "Mean reward of imagined steps, a step",
    r"train/imagined_return": "Mean lambda-return of imagined states, discounted reward",
    r"train/imagined_value": "Mean value of imagined states, discounted reward",
    r"train/actor_entropy": "Entropy of the actions in the first imagined states, summed over their dimensions, nats",
    r"train/updates": "Updates so far",
    r"episode/return": "Mean return of the training episodes since the last point",
    r"episode/length": "Mean length of the training episodes since the last point, agent steps",
    r"eval/return": "Mean return of an evaluation's episodes",
    r"eval/return_std": "Standard deviation of the returns of an evaluation's episodes",
    r"eval/length": "Mean length of an evaluation's episodes, agent steps",
    r"\w+/info\.(.+)_last": "Last {} that the environment told in an episode, mean over the episodes",
    r"\w+/info\.(.+)_mean": "Mean {} that the environment told in an episode, mean over the episodes",
    r"\w+/info\.(.+)_max": "Largest {} that the environment told in an episode, mean over the episodes",
    r"eval/open_loop_(.+)_error": "Squared error of the {}, imagined up to 45 steps ahead from 5 that were seen",
    r"eval/repeat_frame_(.+)_error": "Squared error of the {} where the last one seen is repeated instead",
    r"time/seconds": "Seconds since the last point",
    r"time/waiting_for_data": "Share of the time in which no batch was ready",
    r"time/overlap": "Share of the time in which a thread acted beside the rest",
    r"time/(.+)": "Share of the time that {} took",
}


def meaning(name: str) -> str:
    """What a metric is, "" where that is not known: the first of the names above that it matches says."""
    for pattern, text in _MEANINGS.items():
        if match := re.fullmatch(pattern, name):
            return text.format(*match.groups())
    return ""
