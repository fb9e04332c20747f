"""Ledger of chat requests: responses and their costs, in a file that survives a crash."""

import dataclasses
import fcntl
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from irec_jax.errors import InputError

_MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class TokenCost:
    """Tokens and their price.

    Attributes:
        tokens_in: Tokens of requests.
        tokens_out: Tokens of responses.
        money: Their price, in the currency of `Prices`.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0

    @classmethod
    def total(cls, costs: Iterable["TokenCost"]) -> "TokenCost":
        """Returns the sum of costs, to the last bit independent of their order."""
        costs = list(costs)
        return cls(
            sum(cost.tokens_in for cost in costs),
            sum(cost.tokens_out for cost in costs),
            math.fsum(cost.money for cost in costs),
        )


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in any currency.

    Attributes:
        input: Price of a million tokens of requests.
        output: Price of a million tokens of responses.
    """

    input: float = 0.0
    output: float = 0.0

    def cost(self, tokens_in: int, tokens_out: int) -> TokenCost:
        """Returns the cost of numbers of tokens."""
        money = (tokens_in * self.input + tokens_out * self.output) / _MILLION
        return TokenCost(tokens_in, tokens_out, money)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of all requests in a ledger, including those of earlier runs.

    Attributes:
        tokens: Largest number of tokens of requests and responses; None for no limit.
        money: Largest price, in the currency of `Prices`; None for no limit.
    """

    tokens: int | None = None
    money: float | None = None

    def covers(self, cost: TokenCost) -> bool:
        """Returns whether a cost is within the limits."""
        tokens = cost.tokens_in + cost.tokens_out
        return (self.tokens is None or tokens <= self.tokens) and (
            self.money is None or cost.money <= self.money
        )


@dataclasses.dataclass(frozen=True)
class ChatResponse:
    """The response to a request.

    Attributes:
        content: The text.
        finish: `stop`, `length`, or `refused` if the endpoint declined; else as the endpoint says.
        cost: The cost of request and response.
    """

    content: str
    finish: str
    cost: TokenCost


@dataclasses.dataclass
class RequestCounts:
    """Counts of one run.

    Attributes:
        requests: Requests sent, including failed ones.
        retries: Requests that repeat a failed one.
        paid: Responses received.
        cached: Responses taken from the ledger.
    """

    requests: int = 0
    retries: int = 0
    paid: int = 0
    cached: int = 0


class CostLedger:
    """Responses and costs by the SHA-256 of their requests; a context manager.

    The file is an append-only list of JSON lines. `{"sent": KEY, ...}` with the largest possible
    cost is written before a request is sent; `{"answer": KEY, ...}` with the response, or
    `{"failed": KEY}` for an unbilled failure, replaces that cost. The requests in flight when a
    process was killed therefore count with their largest cost. An incomplete last line is
    removed when the file is opened.

    Args:
        path: The file; created if missing.
        budget: Limits of all requests in the file.

    Raises:
        InputError: Another process has the file open, or it is not a ledger.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path, self.budget, self.counts = path, budget, RequestCounts()
        self._responses: dict[str, ChatResponse] = {}
        self._pending: dict[str, list[TokenCost]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError:
            self._file.close()
            hint = "Wait for it to end, or give another file with --answers."
            raise InputError("another `irec teach` writes it", where=str(path), hint=hint) from None
        except BaseException:
            self._file.close()
            raise
        self._settled = TokenCost.total(response.cost for response in self._responses.values())

    def __enter__(self) -> "CostLedger":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def settled(self) -> TokenCost:
        """The cost of the responses in the file."""
        return self._settled

    @property
    def unsettled(self) -> TokenCost:
        """The largest possible cost of the requests without a response."""
        return TokenCost.total(cost for costs in self._pending.values() for cost in costs)

    @property
    def spent(self) -> TokenCost:
        """An upper bound of the cost of all requests."""
        return TokenCost.total((self._settled, self.unsettled))

    def find(self, key: str) -> ChatResponse | None:
        """Returns the stored response to a request, or None."""
        return self._responses.get(key)

    def can_afford(self, max_cost: TokenCost) -> bool:
        """Returns whether the budget covers another request of at most this cost."""
        return self.budget.covers(TokenCost.total((self.spent, max_cost)))

    def send(self, key: str, max_cost: TokenCost) -> None:
        """Records that a request is about to be sent, with its largest possible cost."""
        self._write({"sent": key, **dataclasses.asdict(max_cost)})
        self._pending.setdefault(key, []).append(max_cost)
        self.counts.requests += 1

    def fail(self, key: str) -> None:
        """Records that the last request with this key failed without a cost."""
        self._write({"failed": key})
        self._remove_pending(key)

    def settle(self, key: str, response: ChatResponse) -> None:
        """Stores the response to the last request with this key; it is on disk on return."""
        self._write(
            {
                "answer": key,
                "content": response.content,
                "finish": response.finish,
                **dataclasses.asdict(response.cost),
            }
        )
        os.fsync(self._file.fileno())
        self._remove_pending(key)
        self._responses[key] = response
        self._settled = TokenCost.total((self._settled, response.cost))
        self.counts.paid += 1

    def _remove_pending(self, key: str) -> None:
        costs = self._pending[key]
        costs.pop()
        if not costs:
            del self._pending[key]

    def _write(self, line: dict[str, Any]) -> None:
        # Flushed at once, so that a kill loses at most the line in progress.
        self._file.write(json.dumps(line, ensure_ascii=True).encode("ascii") + b"\n")
        self._file.flush()

    def _load(self) -> None:
        self._file.seek(0)
        complete = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise InputError(
                    f"line {number} is not a line of a ledger",
                    where=str(self.path),
                    hint="Give another file with --answers; it is created if missing.",
                ) from error
        self._file.truncate(complete)

    def _read(self, line: dict[str, Any]) -> None:
        if "failed" in line:
            self._remove_pending(line["failed"])
            return
        cost = TokenCost(int(line["tokens_in"]), int(line["tokens_out"]), float(line["money"]))
        if "sent" in line:
            self._pending.setdefault(line["sent"], []).append(cost)
        else:
            key = line["answer"]
            self._remove_pending(key)
            self._responses[key] = ChatResponse(str(line["content"]), str(line["finish"]), cost)
