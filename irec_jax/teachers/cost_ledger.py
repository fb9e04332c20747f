"""What was paid for: answers and their costs, in a file that outlives a kill or a crash."""

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
    """Tokens and money.

    Attributes:
        tokens_in: Of what was asked.
        tokens_out: Of what was answered.
        money: In the currency of the prices.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0

    @classmethod
    def total(cls, costs: Iterable["TokenCost"]) -> "TokenCost":
        """Adds up; the sum of the money does not depend on the order."""
        costs = list(costs)
        return cls(
            sum(cost.tokens_in for cost in costs),
            sum(cost.tokens_out for cost in costs),
            math.fsum(cost.money for cost in costs),
        )


@dataclasses.dataclass(frozen=True)
class Prices:
    """What a million tokens cost.

    Attributes:
        input: Of what is asked.
        output: Of what is answered.
    """

    input: float = 0.0
    output: float = 0.0

    def cost(self, tokens_in: int, tokens_out: int) -> TokenCost:
        """Returns what so many tokens cost."""
        money = (tokens_in * self.input + tokens_out * self.output) / _MILLION
        return TokenCost(tokens_in, tokens_out, money)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What may be spent on a ledger in all, this run and the ones before it together.

    Attributes:
        tokens: Asked and answered ones together, None for any number.
        money: In the currency of the prices, None for any sum.
    """

    tokens: int | None = None
    money: float | None = None

    def holds(self, cost: TokenCost) -> bool:
        """Says whether a cost is not more."""
        tokens = cost.tokens_in + cost.tokens_out
        return (self.tokens is None or tokens <= self.tokens) and (
            self.money is None or cost.money <= self.money
        )


@dataclasses.dataclass(frozen=True)
class ChatResponse:
    """What came back for a request.

    Attributes:
        content: The text.
        finish: Why it ended: `stop`, `length`, or `refused` where there is none.
        cost: What was paid for it.
    """

    content: str
    finish: str
    cost: TokenCost


@dataclasses.dataclass
class RequestCounts:
    """What one run did.

    Attributes:
        requests: Sent, the failed ones included.
        retries: Requests that repeat one that failed.
        paid: Answers that came.
        cached: Answers that were there already.
    """

    requests: int = 0
    retries: int = 0
    paid: int = 0
    cached: int = 0


class CostLedger:
    """Answers by the SHA-256 of their requests, and what they cost; a context manager.

    A file of JSON lines that only grows. Before a request is sent, a line says what it may cost
    at most; the line of its answer, or one that says that it failed without a cost, takes its
    place. So what a killed run had under way counts as spent, and a budget holds whatever
    happens. A line that a kill cut off is dropped when the file is opened again.

    Args:
        path: Made if it is not there.
        budget: What may be spent in all.

    Raises:
        InputError: The file is in use, or is not a ledger.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path, self.budget, self.counts = path, budget, RequestCounts()
        self._answers: dict[str, ChatResponse] = {}
        self._open: dict[str, list[TokenCost]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError:
            self._file.close()
            hint = "wait for it, or give another file with --answers."
            raise InputError("another `irec teach` writes it", where=str(path), hint=hint) from None
        except BaseException:
            self._file.close()
            raise
        self._settled = TokenCost.total(answer.cost for answer in self._answers.values())

    def __enter__(self) -> "CostLedger":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def settled(self) -> TokenCost:
        """What the answers in the file cost."""
        return self._settled

    @property
    def unsettled(self) -> TokenCost:
        """What requests whose answers never came may have cost, at most."""
        return TokenCost.total(cost for costs in self._open.values() for cost in costs)

    @property
    def spent(self) -> TokenCost:
        """All of it, at most."""
        return TokenCost.total((self._settled, self.unsettled))

    def find(self, key: str) -> ChatResponse | None:
        """Returns the answer to a request, None where there is none."""
        return self._answers.get(key)

    def can_afford(self, most: TokenCost) -> bool:
        """Says whether a request may be sent."""
        return self.budget.holds(TokenCost.total((self.spent, most)))

    def send(self, key: str, most: TokenCost) -> None:
        """Notes that a request is about to be sent, and what it costs at most."""
        self._write({"sent": key, **dataclasses.asdict(most)})
        self._open.setdefault(key, []).append(most)
        self.counts.requests += 1

    def fail(self, key: str) -> None:
        """Notes that the last request was turned away and costs nothing."""
        self._write({"failed": key})
        self._close(key)

    def settle(self, key: str, answer: ChatResponse) -> None:
        """Keeps the answer to the last request; it is on the disk when this returns."""
        self._write(
            {
                "answer": key,
                "content": answer.content,
                "finish": answer.finish,
                **dataclasses.asdict(answer.cost),
            }
        )
        os.fsync(self._file.fileno())
        self._close(key)
        self._answers[key] = answer
        self._settled = TokenCost.total((self._settled, answer.cost))
        self.counts.paid += 1

    def _close(self, key: str) -> None:
        costs = self._open[key]
        costs.pop()
        if not costs:
            del self._open[key]

    def _write(self, line: dict[str, Any]) -> None:
        # At once, so that a kill loses at most the line that is being written.
        self._file.write(json.dumps(line, ensure_ascii=True).encode("ascii") + b"\n")
        self._file.flush()

    def _load(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise InputError(
                    f"line {number} is not one of a ledger",
                    where=str(self.path),
                    hint="give another file with --answers; a new one is made.",
                ) from error
        self._file.truncate(whole)

    def _read(self, line: dict[str, Any]) -> None:
        if "failed" in line:
            self._close(line["failed"])
            return
        cost = TokenCost(int(line["tokens_in"]), int(line["tokens_out"]), float(line["money"]))
        if "sent" in line:
            self._open.setdefault(line["sent"], []).append(cost)
        else:
            key = line["answer"]
            self._close(key)
            self._answers[key] = ChatResponse(str(line["content"]), str(line["finish"]), cost)
