"""The keys of configs/defaults.yaml with their types, as `python scripts/write_keys.py` writes them."""

from dreamer.sections import Section


class Env(Section):
    """Section env."""

    action_repeat: int  # frames
    time_limit: int  # frames
    size: int  # pixels
    camera: int  # index
    renderer: str  # name
    worker: bool  # flag
    shadow_map: int  # pixels
    sticky: float  # probability
    noops: int  # frames
    full_actions: bool  # flag
    life_loss: bool  # flag
    hold_out: bool  # flag
    timeout: int  # seconds
    start_timeout: int  # seconds
    retries: int  # environments
    kwargs: str  # arguments
    image: str  # observation
    info: str  # names
    level_cache: str  # folder


class Envs(Section):
    """Section envs."""

    count: int  # environments


class Replay(Section):
    """Section replay."""

    batch: int  # sequences
    length: int  # steps
    cross_ends: bool  # flag
    tanh_rewards: bool  # flag
    capacity: int  # steps
    prefetch: int  # batches
    compress: bool  # flag


class Logger(Section):
    """Section logger."""

    also: str  # name
    project: str  # name


class Learn(Section):
    """Section learn."""

    source: str  # folder
    hold_out: int  # episodes


class Model(Section):
    """Section model."""

    deter: int  # units
    stoch: int  # units
    hidden: int  # units
    min_std: float  # standard deviation
    conv_depth: int  # channels
    units: int  # units
    inputs: str  # names
    vector_layers: int  # layers
    vector_std: float  # standard deviation
    observation: str  # name
    probe_decoder: bool  # flag
    reward_layers: int  # layers
    discount_head: bool  # flag
    discount_layers: int  # layers
    discount_scale: float  # factor
    kl_scale: float  # factor
    free_nats: float  # nats
    free_nats_per: str  # name
    lr: float  # step size


class Actor(Section):
    """Section actor."""

    layers: int  # layers
    units: int  # units
    init_std: float  # standard deviation
    mean_scale: float  # units
    min_std: float  # standard deviation
    lr: float  # step size


class Value(Section):
    """Section value."""

    layers: int  # layers
    units: int  # units
    lr: float  # step size


class Behavior(Section):
    """Section behavior."""

    horizon: int  # steps
    discount: float  # factor
    return_lambda: float  # factor
    bootstrap: bool  # flag


class Planner(Section):
    """Section planner."""

    horizon: int  # steps
    candidates: int  # plans
    best: int  # plans
    iterations: int  # iterations
    value: bool  # flag


class Optimizer(Section):
    """Section optimizer."""

    epsilon: float  # number
    clip: float  # norm


class Explore(Section):
    """Section explore."""

    noise: float  # standard deviation
    mode: bool  # flag
    epsilon: float  # probability
    epsilon_end: float  # probability
    epsilon_updates: int  # updates
    epsilon_eval: float  # probability


class Loop(Section):
    """Section loop."""

    prefill: int  # frames
    pretrain: int  # updates
    train_every: int  # frames
    train_updates: int  # updates
    eval_every: int  # frames
    eval_episodes: int  # episodes
    eval_env: str  # name
    overlap: bool  # flag
    save_every: int  # frames
    max_skipped: int  # updates


class Keys(Section):
    """All keys."""

    suite: str  # name
    task: str  # name
    method: str  # name
    seed: int  # number
    steps: int  # frames
    precision: str  # name
    init_from: str  # folder
    xla: str  # name
    gpus: int  # GPUs
    env: Env
    envs: Envs
    replay: Replay
    logger: Logger
    learn: Learn
    model: Model
    actor: Actor
    value: Value
    behavior: Behavior
    planner: Planner
    optimizer: Optimizer
    explore: Explore
    loop: Loop
