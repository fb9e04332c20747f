"""How long a run trains, how large its batches are, and how often it saves."""

import dataclasses

from irec_jax.errors import InputError

_COUNTS = ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, how large and how often.

    Attributes:
        steps: Optimizer steps of the whole run.
        batch_size: Packed rows of a step, on all devices together.
        accumulate: Parts that a step's rows are computed in, one after the other; more parts need
            less memory and give the same update.
        log_every: Steps between two log lines; losses are kept of every step.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        keep: How many of the newest checkpoints stay.
        pretrained: A Hugging Face folder of T5 weights to start from; "" starts at random.
        title_share: Part of the variance of an atomic item's first embedding that comes from its
            title, 0 to 1.
        z_loss: Weight of the squared log-normalizer of each token, which keeps logits from
            drifting; T5 uses 1e-4.
        label_smoothing: Share of a target's probability that is spread evenly over all tokens.
        max_skipped: A step whose loss or gradient is not a number changes nothing; after so many
            one after the other the run ends.
    """

    steps: int = 1_000
    batch_size: int = 32
    accumulate: int = 1
    log_every: int = 50
    checkpoint_every: int = 500
    keep: int = 2
    pretrained: str = ""
    title_share: float = 1.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    max_skipped: int = 5

    def __post_init__(self) -> None:
        for key in _COUNTS:
            value = getattr(self, key)
            if value < 1:
                mend = "Give a whole number from 1 on."
                raise InputError(f"{value} is below 1", where=f"train.{key}", mend=mend)
        if self.max_skipped < 0:
            mend = "Give 0 to end the run at the first."
            raise InputError(f"{self.max_skipped} is below 0", where="train.max_skipped", mend=mend)
        if not 0.0 <= self.title_share <= 1.0:
            what = f"{self.title_share} is not between 0 and 1"
            raise InputError(what, where="train.title_share")
        if not 0.0 <= self.label_smoothing < 1.0:
            what = f"{self.label_smoothing} is not from 0 up to but not 1"
            raise InputError(what, where="train.label_smoothing")
        if not 0.0 <= self.z_loss < float("inf"):
            raise InputError(f"{self.z_loss} is below 0", where="train.z_loss")
