"""The world model: encoder, RSSM and heads, and the losses that train them (paper, Section 4, eqs. 9-12)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from dreamer.nets.distributions import bernoulli, normal, unit_normal_log_prob
from dreamer.nets.layers import MLP, Decoder, Encoder, flatten_leading, seed_stream
from dreamer.types import IMAGE, PIXELS, Batch, Space, State
from dreamer.world_model.rssm import RSSM, feature


def preprocess(image: tf.Tensor) -> tf.Tensor:
    """uint8 [..., n, n, 3] -> float32 in [-0.5, 0.5]."""
    return tf.cast(image, tf.float32) / 255.0 - 0.5


def symlog(x: tf.Tensor) -> tf.Tensor:
    """sign(x) ln(1 + |x|), of any shape: for vectors, whose numbers may be of any size (Hafner et al. 2023, eq. 9)."""
    return tf.sign(x) * tf.math.log1p(tf.abs(x))


def symexp(x: tf.Tensor) -> tf.Tensor:
    """The inverse of symlog, of any shape. What is beyond 1e8 stays there: a wild guess must not become infinite."""
    return tf.sign(x) * tf.math.expm1(tf.minimum(tf.abs(x), 18.4))


def gaussian_kl(mean: tf.Tensor, std: tf.Tensor, prior_mean: tf.Tensor, prior_std: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, std) || N(prior_mean, prior_std)) in nats, summed over the last dimension: [..., S] -> [...]."""
    ratio = tf.square(std / prior_std)
    distance = tf.square((mean - prior_mean) / prior_std)
    return 0.5 * tf.reduce_sum(ratio + distance - 1.0 - tf.math.log(ratio), -1)


def free_nats_after_mean(kl: tf.Tensor, free_nats: float) -> tf.Tensor:
    """max(mean KL, free nats): the TF2 release's form. kl: [B, T] -> scalar."""
    return tf.maximum(tf.reduce_mean(kl), free_nats)


def free_nats_per_state(kl: tf.Tensor, free_nats: float) -> tf.Tensor:
    """mean max(0, KL - free nats): each state has its own (PlaNet, the paper and TF1). kl: [B, T] -> scalar."""
    return tf.reduce_mean(tf.nn.relu(kl - free_nats))


FREE_NATS = {"mean": free_nats_after_mean, "state": free_nats_per_state}


def image_loss(decoder: Decoder, features: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """-ln p(o | s), a Normal of unit variance around a drawing. [..., F], [..., n, n, 3] uint8 -> [...]."""
    return -unit_normal_log_prob(decoder(features), preprocess(image), event_ndims=3)


def vector_loss(mean: tf.Tensor, vector: tf.Tensor, std: float) -> tf.Tensor:
    """-ln p(symlog(o) | s) of a vector o: a Normal of deviation `std` around `mean`. [..., size] each -> [...] (ours).

    With a deviation of 1 numbers that vary by less than that would tell a state less than the KL term takes for them.
    """
    return -normal(mean, std).log_prob(symlog(vector))


def contrastive_loss(features: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """-J_S of eq. 12: -ln q(s | o) + ln sum over o' of q(s | o'), o' being all images of the batch, o among them.

    features: states s; predicted: means of q(s | o), a Normal of unit variance, from the images o at the same places.
    (The TF1 release learns the deviation of q, and sums over states of the batch instead of images.)
    Both [B, T, F] float32 -> [B, T].
    """
    states, restore = flatten_leading(features, 1)
    means, _ = flatten_leading(predicted, 1)
    # -|s - m|^2 / 2 without |s|^2, which a row has in common and its softmax therefore drops.
    logits = tf.matmul(states, means, transpose_b=True) - 0.5 * tf.reduce_sum(tf.square(means), 1)
    return restore(tf.reduce_logsumexp(logits, 1) - tf.linalg.diag_part(logits))


class WorldModel(keras.layers.Layer):
    """Encoder e(o_t), RSSM, what `observation` asks for, reward p(r_t | s_t) and, optionally, discount p(d_t | s_t).

    inputs: Space of everything that o_t consists of, by name: an image, vectors or both. Vectors go through an MLP of
    vector_layers, whose output of `units` joins the image's, and each has a head p(o_t | s_t): `vector_loss` (ours).
    observation: "pixels" has a decoder p(o_t | s_t) (eq. 10) and the heads, "contrastive" a state model q(s_t | o_t) on
    top of the encoder (eq. 12), "none" neither: the reward alone says what a state must hold. Without pixels the
    decoder is None, or with probe_decoder one that only looks on: `loss` leaves it out and `probe_loss` has it.
    gamma is the discount factor that the discount head learns to multiply its targets with.
    """

    def __init__(
        self,
        actions: int,
        inputs: Mapping[str, Space] = PIXELS,
        *,
        deter: int,
        stoch: int,
        hidden: int,
        min_std: float,
        conv_depth: int,
        units: int,
        vector_layers: int,
        vector_std: float,
        observation: str,
        probe_decoder: bool,
        reward_layers: int,
        discount_head: bool,
        discount_layers: int,
        discount_scale: float,
        kl_scale: float,
        free_nats: float,
        free_nats_per: str,
        gamma: float,
        seeds: Iterator[int],
        probe_seeds: Iterator[int],
        name: str = "world_model",
    ):
        super().__init__(name=name)
        self._discount_scale, self._kl_scale, self._gamma = discount_scale, kl_scale, gamma
        self._free_nats, self._after_free_nats = free_nats, FREE_NATS[free_nats_per]
        self.free_nats_of_the_mean = free_nats_per == "mean"
        width = stoch + deter
        self._vectors, self._vector_std = sorted(set(inputs) - {IMAGE}), vector_std
        self.encoder: Encoder | None = None
        self.vector_encoder: MLP | None = None
        vectors: dict[str, Any] = {"layers": vector_layers, "units": units, "seeds": seeds}
        embed, side = 0, 0
        if IMAGE in inputs:
            side = inputs[IMAGE].shape[0]
            self.encoder = Encoder(depth=conv_depth, side=side, seeds=seeds)
            embed += self.encoder.width
        if self._vectors:
            size = sum(inputs[name].shape[0] for name in self._vectors)
            self.vector_encoder = MLP(size, units, name="vector_encoder", **vectors)
            embed += units
        self.rssm = RSSM(actions, embed, stoch=stoch, deter=deter, hidden=hidden, min_std=min_std, seeds=seeds)
        self.decoder: Decoder | None = None
        self.state_head: MLP | None = None
        self.vector_heads: dict[str, MLP] = {}
        self.probes = probe_decoder and observation != "pixels" and IMAGE in inputs
        if observation == "pixels":
            if IMAGE in inputs:
                self.decoder = Decoder(width, depth=conv_depth, side=side, seeds=seeds)
            for name in self._vectors:
                head = MLP(width, inputs[name].shape[0], name=f"vector_head_{len(self.vector_heads)}", **vectors)
                self.vector_heads[name] = head
        elif observation == "contrastive":
            self.state_head = MLP(embed, width, layers=reward_layers, units=units, seeds=seeds, name="state")
        self.reward_head = MLP(width, 1, layers=reward_layers, units=units, seeds=seeds, name="reward")
        self.discount_head: MLP | None = None
        if discount_head:
            self.discount_head = MLP(width, 1, layers=discount_layers, units=units, seeds=seeds, name="discount")
        if self.probes:  # With seeds of its own: the weights of everything else are those of a model without it.
            self.decoder = Decoder(width, depth=conv_depth, side=side, seeds=probe_seeds)
        self.built = True

    @property
    def model_variables(self) -> list[keras.Variable]:
        """What `loss` trains: all but the probe's decoder."""
        probe = {id(variable) for variable in self.probe_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in probe]

    @property
    def probe_variables(self) -> list[keras.Variable]:
        """What `probe_loss` trains."""
        return self.decoder.trainable_variables if self.decoder is not None and self.probes else []

    @property
    def encoding_layers(self) -> list[keras.layers.Layer]:
        """The layers whose weights `embed` reads; their variables are the model's first ones."""
        images = self.encoder.convs if self.encoder else []
        vectors = [*self.vector_encoder.hidden, self.vector_encoder.out] if self.vector_encoder else []
        return [*images, *vectors]

    def observe(self, batch: Batch, noise: tf.Tensor) -> tuple[State, tuple[tf.Tensor, tf.Tensor]]:
        """Posterior State [B, T, ...] and prior (mean, std) of a Batch; noise: [B, T, S]."""
        return self._filter(self.embed(batch.inputs), batch, noise)

    def embed(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """e(o_t), for the posterior: image [..., n, n, 3] uint8 and vectors [..., size] -> [..., E]."""
        parts = []
        if self.encoder is not None:
            parts.append(self.encoder(preprocess(inputs[IMAGE])))
        if self.vector_encoder is not None:
            vector = tf.concat([symlog(inputs[name]) for name in self._vectors], -1)
            parts.append(tf.cast(self.vector_encoder(vector), parts[0].dtype if parts else tf.float32))
        return tf.concat(parts, -1) if len(parts) > 1 else parts[0]

    def reward(self, features: tf.Tensor) -> tf.Tensor:
        """Mean of p(r | s): [..., F] -> [...]."""
        return self.reward_head(features)[..., 0]

    def discount(self, features: tf.Tensor) -> tf.Tensor:
        """Discount after each state, [..., F] -> [...]: gamma, or what the discount head predicts (gamma included)."""
        if self.discount_head is None:
            return self._gamma * tf.ones(tf.shape(features)[:-1])
        return bernoulli(self.discount_head(features)[..., 0]).probs_parameter()

    def going_on(self, discount: tf.Tensor) -> tf.Tensor:
        """Probability that an episode goes on, of what `discount` returned: [...] -> [...]. Without a discount head 1.

        The head learns gamma times this probability, and may come out above gamma.
        """
        if self.discount_head is None:
            return tf.ones_like(discount)
        return tf.minimum(tf.math.divide_no_nan(discount, self._gamma), 1.0)

    def loss(
        self,
        batch: Batch,
        noise: tf.Tensor,
        contrast: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = contrastive_loss,
    ) -> tuple[tf.Tensor, State, dict[str, tf.Tensor]]:
        """Eq. 10, negated: -E[ln p(o|s) + ln p(r|s)] + beta max(mean KL, free nats), averaged over B and T.

        FREE_NATS has the two forms of the KL term. contrastive_loss takes the place of the image's likelihood in
        eq. 12, or what else `contrast` makes of its arguments, and nothing does where only rewards are to be predicted.

        Returns the scalar loss, the posterior State [B, T, ...] and a dict of scalar metrics (nats per step).
        """
        embed = self.embed(batch.inputs)
        posterior, prior = self._filter(embed, batch, noise)
        features = feature(posterior)
        losses = {"reward": -normal(self.reward(features), event_ndims=0).log_prob(batch.reward)}
        if not (self.decoder is None or self.probes):
            losses["image"] = image_loss(self.decoder, features, batch.image)
        for name, head in self.vector_heads.items():
            losses[f"vector_{name}"] = vector_loss(head(features), batch.inputs[name], self._vector_std)
        if self.state_head is not None:
            losses["state"] = contrast(features, self.state_head(embed))
        if self.discount_head is not None:
            logit = self.discount_head(features)[..., 0]
            losses["discount"] = -self._discount_scale * bernoulli(logit).log_prob(self._gamma * batch.discount)
        kl = gaussian_kl(posterior.mean, posterior.std, *prior)
        for loss in (*losses.values(), kl):
            loss.shape.assert_is_compatible_with(batch.reward.shape)
        losses = {name: tf.reduce_mean(loss) for name, loss in losses.items()}
        losses["kl"] = self.kl_loss(kl)
        total = tf.add_n(list(losses.values()))
        metrics = {f"{name}_loss": value for name, value in losses.items()}
        metrics |= {
            "model_loss": total,
            "kl": tf.reduce_mean(kl),
            "prior_entropy": tf.reduce_mean(normal(prior[0], prior[1]).entropy()),
            "posterior_entropy": tf.reduce_mean(normal(posterior.mean, posterior.std).entropy()),
        }
        return total, posterior, metrics

    def probe_loss(self, posterior: State, image: tf.Tensor) -> tf.Tensor:
        """-ln p(o|s) of the probe's decoder, averaged over B and T: a scalar that depends on no other network.

        posterior: State [B, T, ...], image: [B, T, n, n, 3] uint8.
        """
        assert self.decoder is not None
        return tf.reduce_mean(image_loss(self.decoder, tf.stop_gradient(feature(posterior)), image))

    def kl_loss(self, kl: tf.Tensor) -> tf.Tensor:
        """The KL term of eq. 10. kl: [B, T], or what has the same mean where `free_nats_of_the_mean` -> scalar."""
        return self._kl_scale * self._after_free_nats(kl, self._free_nats)

    def open_loop(self, batch: Batch, noise: tf.Tensor, context: int) -> dict[str, tf.Tensor]:
        """What is predicted after `context` observed steps: "reward" [B, T], and the inputs that have a head, by name.

        Images [B, T, n, n, 3] are float32 in [0, 1], vectors [B, T, size] in their own units.
        The first `context` steps are reconstructions from the posterior, the rest follow the batch's actions through
        the prior without anything being seen. A piece boundary inside the imagined part cannot be foreseen.
        """
        posterior, _ = self.observe(tf.nest.map_structure(lambda x: x[:, :context], batch), noise[:, :context])
        last = tf.nest.map_structure(lambda x: x[:, -1], posterior)
        imagined = self.rssm.imagine(last, batch.action[:, context:], noise[:, context:])
        features = tf.concat([feature(posterior), feature(imagined)], 1)
        return self.predicted(features) | {"reward": self.reward(features)}

    def predicted(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """The inputs that states predict: [..., F] -> image [..., n, n, 3] in [0, 1], vectors [..., size], by name."""
        vectors = {name: symexp(head(features)) for name, head in self.vector_heads.items()}
        if self.decoder is None:
            return vectors
        return {IMAGE: tf.clip_by_value(self.decoder(features) + 0.5, 0.0, 1.0)} | vectors

    def _filter(self, embed: tf.Tensor, batch: Batch, noise: tf.Tensor) -> tuple[State, tuple[tf.Tensor, tf.Tensor]]:
        return self.rssm.observe(embed, batch.action, batch.is_first, noise)


def probe_seed_stream(seed: int) -> Iterator[int]:
    """Seeds for the probe's weights, none of which is taken from those of the agent with this seed (below 2**31)."""
    return seed_stream(seed + 2**31)
