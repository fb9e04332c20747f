"""A world whose next-item distribution is known, and the behavior log drawn from it."""

import dataclasses
from typing import Literal, get_args

from irec_jax.errors import InputError, nearest

Domain = Literal["shop", "content", "social", "finance"]


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """What the simulated world is like; the defaults are the size of `irec quickstart`.

    The four strengths are in nats of log-odds; at 0 the part is switched off.

    Attributes:
        domain: Which of the four catalogs.
        users: Users in the log.
        items: Items in the catalog.
        events_per_user: Mean number of events of a user; each has 8 to 60.
        days: Length of the log in days.
        query_share: Share of events before which the user typed a query.
        specific_share: Share of the queries that are specific; the others are vague.
        review_share: Share of events that come with a review and a rating.
        taste: How much the user's long-term taste decides.
        continuation: How much the last three items decide.
        popularity: How much the popularity of an item decides.
        season: How much the time of the year decides.
        drift: Share of a user's tastes that are others at the end of the log.
        seed: Decides catalog, users and events.
    """

    domain: Domain = "shop"
    users: int = 3_000
    items: int = 1_000
    events_per_user: float = 20.0
    days: int = 730
    query_share: float = 0.5
    specific_share: float = 0.5
    review_share: float = 0.25
    taste: float = 1.0
    continuation: float = 1.0
    popularity: float = 1.0
    season: float = 1.0
    drift: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        if self.domain not in get_args(Domain):
            raise InputError(
                f"unknown domain {self.domain!r}; {nearest(self.domain, get_args(Domain))}",
                where="data.simulate.domain",
                mend="use one of the allowed words.",
            )
        lowest = {"users": 1, "items": 100, "days": 30, "seed": 0, "events_per_user": 8}
        for name, least in lowest.items():
            if not getattr(self, name) >= least:
                raise InputError(
                    f"is {getattr(self, name)}, must be at least {least}",
                    where=f"data.simulate.{name}",
                    mend=f"set {name} to {least} or more.",
                )
        if not self.events_per_user <= 40:
            raise InputError(
                f"is {self.events_per_user}, must be at most 40",
                where="data.simulate.events_per_user",
                mend="use more users instead.",
            )
        for name in ("query_share", "specific_share", "review_share", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"is {getattr(self, name)}, must lie between 0 and 1",
                    where=f"data.simulate.{name}",
                    mend="give a share.",
                )
        for name in ("taste", "continuation", "popularity", "season"):
            if not 0 <= getattr(self, name) <= 10:
                raise InputError(
                    f"is {getattr(self, name)}, must lie between 0 and 10",
                    where=f"data.simulate.{name}",
                    mend="1 is the usual strength.",
                )
