"""Texts from a chat endpoint: concurrent requests, each paid once, within a budget."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_TERMINATED
from irec_jax.progress import print_status, track
from irec_jax.random_draws import RandomStream, derive_key
from irec_jax.teachers.chat_endpoint import (
    REFUSED,
    ChatConfig,
    ChatEndpoint,
    RequestFailure,
    request_key,
)
from irec_jax.teachers.cost_ledger import ChatResponse, CostLedger, TokenCost
from irec_jax.teachers.results import TextResult, check_response, make_result
from irec_jax.teachers.teacher_prompts import TextRequest, load_prompts
from irec_jax.teachers.text_checks import Rejection, parse_response

_SEEDS = 1 << 31  # endpoints read a seed as a signed number of 32 bits
_DRAWS = 1 << 64


class _Stopped(Exception):
    """Another request or a signal ended the run."""


def request_texts(
    requests: Iterable[TextRequest],
    config: ChatConfig,
    ledger: CostLedger,
    *,
    total: int,
    attempts: int = 3,
    seed: int = 0,
) -> list[TextResult]:
    """Requests a text from the endpoint for every request; responses in the ledger are reused.

    If the run ends early, the requests in flight are completed and their responses stored, so
    that the same call continues from there. A second signal ends the run at once.

    Args:
        requests: Read one by one as they are sent.
        config: The endpoint.
        ledger: Stores responses and the budget.
        total: Number of requests, for the progress display.
        attempts: Largest number of responses requested for one text.
        seed: Seed of the model's sampling and of the retry jitter.

    Returns:
        One result per request, in any order.

    Raises:
        InputError: The budget is spent, or the endpoint does not respond.
        KeyboardInterrupt: After SIGINT, when all responses are stored.
        SystemExit: After SIGTERM, when all responses are stored; with exit code 143.
    """
    with track("teach", total, unit="texts") as advance:
        run = _ChatRun(
            iter(requests), config, ledger, attempts=attempts, seed=seed, advance=advance
        )
        try:
            asyncio.run(run.run())
        except asyncio.CancelledError:
            print_status("stopped at once: requests in flight count as paid")
    # Raised outside the event loop: asyncio handles interrupts in a task itself.
    if run.stop_reason is not None:
        raise run.stop_reason
    return run.results


class _ChatRun:
    """State of one call of `request_texts`; all of it is used by one thread."""

    def __init__(
        self,
        requests: Iterator[TextRequest],
        config: ChatConfig,
        ledger: CostLedger,
        *,
        attempts: int,
        seed: int,
        advance: Callable[[int, str], None],
    ) -> None:
        self.results: list[TextResult] = []
        self.stop_reason: BaseException | None = None
        self._requests, self._config, self._ledger = requests, config, ledger
        self._attempts, self._seed, self._advance = attempts, seed, advance
        self._locks: dict[str, asyncio.Lock] = {}
        self._in_flight = 0
        self._not_before = 0.0
        self._stopping, self._request_ended = asyncio.Event(), asyncio.Event()
        self._unfinished_by_row: dict[int, int] = {}

    async def run(self) -> None:
        async with ChatEndpoint(self._config) as endpoint:
            workers = asyncio.gather(
                *(self._work(endpoint) for _ in range(self._config.concurrency))
            )
            self._handle_signals(workers)
            await workers

    def _handle_signals(self, workers: asyncio.Future) -> None:
        """Makes SIGINT and SIGTERM stop the run in order; only the main thread receives them."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()

        def handle(number: signal.Signals) -> None:
            if self.stop_reason is not None:
                workers.cancel()
                return
            print_status(f"stopping after {self._in_flight} requests in flight; {self._kept()}")
            is_interrupt = number is signal.SIGINT
            self._stop(KeyboardInterrupt() if is_interrupt else SystemExit(EXIT_TERMINATED))

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, handle, number)

    def _stop(self, reason: BaseException) -> None:
        if self.stop_reason is None:
            self.stop_reason = reason
        self._stopping.set()
        self._request_ended.set()

    async def _work(self, endpoint: ChatEndpoint) -> None:
        """Processes requests one after the other."""
        for request in self._requests:
            row = request.wanted.row
            self._unfinished_by_row[row] = self._unfinished_by_row.get(row, 0) + 1
            try:
                self.results.append(await self._generate(request, endpoint))
            except _Stopped:
                return
            except InputError as error:
                hint = f"{error.hint}\n  {self._kept()}"
                self._stop(InputError(error.problem, where=error.where, hint=hint))
                return
            except Exception as error:
                self._stop(error)
                return
            self._unfinished_by_row[row] -= 1
            self._advance(1, self._spent_text())
            # A response from the ledger awaits nothing: let the loop handle signals.
            await asyncio.sleep(0)
            if self._stopping.is_set():
                return

    async def _generate(self, request: TextRequest, endpoint: ChatEndpoint) -> TextResult:
        """Requests responses until one passes the checks or the attempts are used up."""
        corrections = load_prompts(request.wanted.language).corrections
        rejections: list[Rejection] = []
        costs: dict[str, TokenCost] = {}
        for nonce in range(self._attempts):
            messages = request.messages
            if rejections:
                role, content = messages[-1]
                correction = corrections[rejections[-1]]
                messages = (*messages[:-1], (role, f"{content}\n\n{correction}"))
            key, response = await self._get(messages, nonce, endpoint)
            costs[key] = response.cost
            text = _text_of(response)
            rejection = check_response(request, text)
            if rejection is None and isinstance(text, str):
                return make_result(request, text, rejections, costs)
            rejections.append(rejection or Rejection.EMPTY)
        return make_result(request, "", rejections, costs)

    async def _get(
        self, messages: tuple[tuple[str, str], ...], nonce: int, endpoint: ChatEndpoint
    ) -> tuple[str, ChatResponse]:
        """Returns the key of a request and its response, from the ledger or the endpoint."""
        body = self._config.body(
            messages, derive_key(self._seed, RandomStream.CHAT_SEED, nonce) % _SEEDS
        )
        key = request_key(body, nonce)
        # Users with equal histories have equal requests: the second waits for the response.
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            response = self._ledger.find(key)
            if response is None:
                max_cost = self._config.max_cost(messages)
                response = await self._send(key, body, max_cost, endpoint)
            else:
                self._ledger.counts.cached += 1
        self._locks.pop(key, None)
        return key, response

    async def _send(
        self, key: str, body: dict, max_cost: TokenCost, endpoint: ChatEndpoint
    ) -> ChatResponse:
        """Sends a request, with retries; the ledger records every attempt before it is sent."""
        failure = RequestFailure("", is_unbilled=True)
        for attempt in range(self._config.retries + 1):
            if attempt:
                self._ledger.counts.retries += 1
                await self._sleep(self._retry_delay(key, attempt - 1, failure))
            await self._wait_for_budget(max_cost)
            self._ledger.send(key, max_cost)
            self._in_flight += 1
            try:
                reply = await endpoint.send(body, max_cost)
            except InputError:
                self._ledger.fail(key)
                raise
            finally:
                self._in_flight -= 1
                self._request_ended.set()
            if isinstance(reply, ChatResponse):
                self._ledger.settle(key, reply)
                return reply
            failure = reply
            if failure.is_unbilled:
                self._ledger.fail(key)
        raise InputError(
            f"no response after {self._config.retries + 1} requests: {failure.problem}",
            where=self._config.shown_url,
            hint="Check that the endpoint runs, then run the same command again.",
        )

    def _retry_delay(self, key: str, attempt: int, failure: RequestFailure) -> float:
        """Returns the seconds until a retry: exponential backoff with jitter, or Retry-After."""
        if failure.retry_after_s > self._config.longest_wait_s:
            raise InputError(
                f"the endpoint asks to wait {failure.retry_after_s:.0f} seconds",
                where=self._config.shown_url,
                hint="Run the same command later, or raise --chat.longest-wait-s.",
            )
        draw = (
            derive_key(self._seed, RandomStream.CHAT_RETRY_DELAY, int(key[:12], 16), attempt)
            / _DRAWS
        )
        longest = self._config.longest_wait_s
        backoff = min(self._config.first_wait_s * 2.0**attempt, longest) * (0.5 + draw / 2)
        loop = asyncio.get_running_loop()
        # A Retry-After of one request holds for all of them.
        self._not_before = max(self._not_before, loop.time() + failure.retry_after_s)
        return max(backoff, failure.retry_after_s)

    async def _wait_for_budget(self, max_cost: TokenCost) -> None:
        """Waits until Retry-After has passed and the budget covers another request."""
        while True:
            if self._stopping.is_set():
                raise _Stopped
            delay = self._not_before - asyncio.get_running_loop().time()
            if delay > 0:
                await self._sleep(delay)
            elif self._ledger.can_afford(max_cost):
                return
            elif self._in_flight:
                # Requests in flight mostly cost less than their largest possible cost.
                self._request_ended.clear()
                await self._request_ended.wait()
            else:
                raise self._budget_error(max_cost)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise _Stopped

    def _budget_error(self, max_cost: TokenCost) -> InputError:
        spent, budget = self._ledger.spent, self._config.budget
        limits = []
        if budget.tokens is not None:
            tokens = spent.tokens_in + spent.tokens_out
            needed = max_cost.tokens_in + max_cost.tokens_out
            limits.append(f"{tokens:,} of {budget.tokens:,} tokens (the next needs {needed:,})")
        if budget.money is not None:
            limits.append(f"{spent.money:.4f} of {budget.money:.4f} in the prices' currency")
        users = self._complete_users()
        hint = "Raise it."
        if users:
            hint = f"Raise it, or write the texts of complete users with --users {users}."
        where = "--chat.budget-tokens, --chat.budget-money"
        return InputError(f"the budget is spent: {', '.join(limits)}", where=where, hint=hint)

    def _kept(self) -> str:
        """Returns a sentence about the results that are not lost."""
        return (
            f"{len(self.results):,} texts are complete; the responses are kept in "
            f"{self._ledger.path}, and the same command continues from there."
        )

    def _complete_users(self) -> int:
        """Counts the users, in the order of the requests, whose requests are all complete."""
        users = 0
        for unfinished in list(self._unfinished_by_row.values())[:-1]:
            if unfinished:
                break
            users += 1
        return users

    def _spent_text(self) -> str:
        spent = self._ledger.spent
        money = f", price {spent.money:.4f}" if spent.money else ""
        return f"{spent.tokens_in + spent.tokens_out:,} tokens{money}"


def _text_of(response: ChatResponse) -> str | Rejection:
    if response.finish == "length":
        return Rejection.CUT_OFF
    return Rejection.REFUSED if response.finish == REFUSED else parse_response(response.content)
