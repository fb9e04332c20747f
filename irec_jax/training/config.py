"""Settings of the training loop."""

import dataclasses

from irec_jax.bounds import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    PRICE,
    SHARE,
    Range,
    check_settings,
)

MINUTES = Range(0, 525_600, "Set it to 0 for none, or to at most a year.")
HANG_SECONDS = Range(
    0, 31_536_000, "Set it to more than compiling a step takes, at most a year.", above=True
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length, batch size, and intervals of logs, checkpoints and validation.

    Attributes:
        steps: Optimizer steps of the whole run.
        batch_size: Packed rows of a step, on all devices together.
        accumulate: Microbatches that a step's rows are computed in, one after the other; more need
            less memory and give the same update.
        log_every: Steps between two log lines; the loss is logged at every step.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        checkpoint_minutes: Minutes between two timed checkpoints, in addition; 0.0 for none.
        keep: How many of the newest checkpoints are kept.
        keep_best: How many of those with the lowest validation loss are kept in addition.
        validate_every: Steps between two measurements of the loss on validation instructions;
            checkpoints that are due get one as well. 0 for none.
        validate_batches: Batches that it is measured on, always the same.
        device_price: Dollars per hour of one JAX device, for the logged cost; 0.0 logs no cost.
        hang_seconds: A run of several processes ends if one of them makes no progress for so long,
            compiling included.
        packed: A folder of packed rows (`irec instruct --packed`) to read, where each process
            reads only its own rows; "" makes rows during training.
        read_threads: Threads that read packed rows ahead, for disks with high latency; 0 reads
            them in the thread that makes batches.
        pretrained: A Hugging Face folder of T5 weights to start from; "" for random weights.
        title_share: Part of the variance of an atomic item's initial embedding that comes from its
            title, 0 to 1.
        z_loss: Weight of the squared log-normalizer of each token, which keeps logits from
            drifting; T5 uses 1e-4.
        label_smoothing: Share of a target's probability that is spread evenly over all tokens.
        max_skipped: Steps in a row that may be skipped because their loss or gradient is not
            finite; one more ends the run.
    """

    steps: int = 500
    batch_size: int = 32
    accumulate: int = 1
    log_every: int = 50
    checkpoint_every: int = 500
    checkpoint_minutes: float = 0.0
    keep: int = 2
    keep_best: int = 1
    validate_every: int = 0
    validate_batches: int = 8
    device_price: float = 0.0
    hang_seconds: float = 900.0
    packed: str = ""
    read_threads: int = 0
    pretrained: str = ""
    title_share: float = 1.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    max_skipped: int = 5

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(
            self,
            "train.",
            steps=COUNT,
            batch_size=Range(1, 2**20),
            accumulate=Range(1, 2**20),
            log_every=COUNT,
            checkpoint_every=COUNT,
            checkpoint_minutes=MINUTES,
            keep=COUNT,
            keep_best=COUNT_OR_NONE,
            validate_every=COUNT_OR_NONE,
            validate_batches=COUNT,
            device_price=PRICE,
            hang_seconds=HANG_SECONDS,
            read_threads=Range(0, 1_024, "Set it to 0 to read in the thread that makes batches."),
            title_share=SHARE,
            z_loss=Range(0, 1),
            label_smoothing=BELOW_ONE,
            max_skipped=Range(0, 10**9, "Set it to 0 to end the run at the first."),
        )
