"""Texts from a chat endpoint: many requests at a time, each paid once, within a budget."""

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
    Endpoint,
    Failure,
    request_key,
)
from irec_jax.teachers.cost_ledger import ChatResponse, CostLedger, TokenCost
from irec_jax.teachers.results import TextResult, judge, outcome
from irec_jax.teachers.teacher_prompts import TextRequest, load_prompts
from irec_jax.teachers.text_checks import Rejection, read_answer

_SEEDS = 1 << 31  # endpoints read a seed as a signed number of 32 bits
_DRAWS = 1 << 64


class _Stopped(Exception):
    """Another question ended the run."""


def ask_chat(
    questions: Iterable[TextRequest],
    config: ChatConfig,
    ledger: CostLedger,
    *,
    total: int,
    attempts: int = 3,
    seed: int = 0,
) -> list[TextResult]:
    """Asks all questions; what the ledger holds is not sent again.

    Whatever ends the run early, requests under way are waited for and their answers are kept, so
    that the same call goes on from there. A second signal does not wait.

    Args:
        questions: Read as they are asked.
        config: Where and how.
        ledger: Keeps the answers and the budget.
        total: How many questions there are, for the progress.
        attempts: How often a question is asked whose answers do not pass.
        seed: Of the model's draws and of the waiting times.

    Returns:
        What became of each question, in no order.

    Raises:
        InputError: The budget is spent, or the endpoint does not answer.
        KeyboardInterrupt: After SIGINT, when everything is kept.
        SystemExit: After SIGTERM, when everything is kept; with 143, as schedulers expect.
    """
    with track("teach", total, unit="questions") as advance:
        asking = _Asking(
            iter(questions), config, ledger, attempts=attempts, seed=seed, advance=advance
        )
        try:
            asyncio.run(asking.run())
        except asyncio.CancelledError:
            print_status("stopped at once: requests under way count as paid")
    # Not from within: asyncio takes interrupts in a task for its own.
    if asking.reason is not None:
        raise asking.reason
    return asking.outcomes


class _Asking:
    """The state of one run; everything happens in one thread."""

    def __init__(
        self,
        questions: Iterator[TextRequest],
        config: ChatConfig,
        ledger: CostLedger,
        *,
        attempts: int,
        seed: int,
        advance: Callable[[int, str], None],
    ) -> None:
        self.outcomes: list[TextResult] = []
        self._questions, self._config, self._ledger = questions, config, ledger
        self._attempts, self._seed, self._advance = attempts, seed, advance
        self._locks: dict[str, asyncio.Lock] = {}
        self._under_way = 0
        self._not_before = 0.0
        self.reason: BaseException | None = None
        self._stopping, self._settled = asyncio.Event(), asyncio.Event()
        self._unfinished: dict[int, int] = {}

    async def run(self) -> None:
        async with Endpoint(self._config) as endpoint:
            workers = asyncio.gather(
                *(self._work(endpoint) for _ in range(self._config.concurrency))
            )
            self._listen(workers)
            await workers

    def _listen(self, workers: asyncio.Future) -> None:
        """Lets signals end the run in order; only the main thread of a program gets any."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()

        def take(number: signal.Signals) -> None:
            if self.reason is not None:
                workers.cancel()
                return
            print_status(f"stopping: {self._under_way} requests are waited for; {self._kept()}")
            is_break = number is signal.SIGINT
            self._stop(KeyboardInterrupt() if is_break else SystemExit(EXIT_TERMINATED))

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, take, number)

    def _stop(self, reason: BaseException) -> None:
        if self.reason is None:
            self.reason = reason
        self._stopping.set()
        self._settled.set()

    async def _work(self, endpoint: Endpoint) -> None:
        """Answers one question after the other."""
        for question in self._questions:
            row = question.wanted.row
            self._unfinished[row] = self._unfinished.get(row, 0) + 1
            try:
                self.outcomes.append(await self._answer(question, endpoint))
            except _Stopped:
                return
            except InputError as error:
                hint = f"{error.hint}\n  {self._kept()}"
                self._stop(InputError(error.problem, where=error.where, hint=hint))
                return
            except Exception as error:
                self._stop(error)
                return
            self._unfinished[row] -= 1
            self._advance(1, self._note())
            # An answer from the ledger waits for nothing; signals are heard here.
            await asyncio.sleep(0)
            if self._stopping.is_set():
                return

    async def _answer(self, question: TextRequest, endpoint: Endpoint) -> TextResult:
        """Asks until an answer passes, or often enough."""
        again = load_prompts(question.wanted.language).again
        rejections: list[Rejection] = []
        costs: dict[str, TokenCost] = {}
        for nonce in range(self._attempts):
            messages = question.messages
            if rejections:
                role, content = messages[-1]
                reminder = again[rejections[-1]]
                messages = (*messages[:-1], (role, f"{content}\n\n{reminder}"))
            key, answer = await self._get(messages, nonce, endpoint)
            costs[key] = answer.cost
            text = _text_of(answer)
            rejection = judge(question, text)
            if rejection is None and isinstance(text, str):
                return outcome(question, text, rejections, costs)
            rejections.append(rejection or Rejection.EMPTY)
        return outcome(question, "", rejections, costs)

    async def _get(
        self, messages: tuple[tuple[str, str], ...], nonce: int, endpoint: Endpoint
    ) -> tuple[str, ChatResponse]:
        """Gives a request's key and the answer of the ledger, or buys it."""
        body = self._config.body(
            messages, derive_key(self._seed, RandomStream.CHAT_SEED, nonce) % _SEEDS
        )
        key = request_key(body, nonce)
        # Two users with the same history ask the same: the second waits for the answer.
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            answer = self._ledger.find(key)
            if answer is None:
                answer = await self._buy(key, body, self._config.most(messages), endpoint)
            else:
                self._ledger.counts.cached += 1
        self._locks.pop(key, None)
        return key, answer

    async def _buy(self, key: str, body: dict, most: TokenCost, endpoint: Endpoint) -> ChatResponse:
        failure = Failure("", is_free=True)
        for attempt in range(self._config.retries + 1):
            if attempt:
                self._ledger.counts.retries += 1
                await self._wait(self._pause(key, attempt - 1, failure))
            await self._turn(most)
            self._ledger.send(key, most)
            self._under_way += 1
            try:
                reply = await endpoint.send(body, most)
            except InputError:
                self._ledger.fail(key)
                raise
            finally:
                self._under_way -= 1
                self._settled.set()
            if isinstance(reply, ChatResponse):
                self._ledger.settle(key, reply)
                return reply
            failure = reply
            if failure.is_free:
                self._ledger.fail(key)
        raise InputError(
            f"no answer after {self._config.retries + 1} requests: {failure.told}",
            where=self._config.shown_url,
            hint="see that the endpoint is up, then give the same command again.",
        )

    def _pause(self, key: str, attempt: int, failure: Failure) -> float:
        """Seconds until a retry: doubled each time, less a part that is drawn, or as asked."""
        if failure.wait_s > self._config.longest_wait_s:
            raise InputError(
                f"the endpoint asks to wait {failure.wait_s:.0f} seconds",
                where=self._config.shown_url,
                hint="give the same command later, or raise --chat.longest-wait-s.",
            )
        draw = (
            derive_key(self._seed, RandomStream.CHAT_RETRY_DELAY, int(key[:12], 16), attempt)
            / _DRAWS
        )
        longest = self._config.longest_wait_s
        backoff = min(self._config.first_wait_s * 2.0**attempt, longest) * (0.5 + draw / 2)
        loop = asyncio.get_running_loop()
        # Who asks one request to wait means all of them.
        self._not_before = max(self._not_before, loop.time() + failure.wait_s)
        return max(backoff, failure.wait_s)

    async def _turn(self, most: TokenCost) -> None:
        """Waits until a request may be sent: the endpoint wants one, and the budget holds it."""
        while True:
            if self._stopping.is_set():
                raise _Stopped
            early = self._not_before - asyncio.get_running_loop().time()
            if early > 0:
                await self._wait(early)
            elif self._ledger.can_afford(most):
                return
            elif self._under_way:
                # Most cost less than they could have.
                self._settled.clear()
                await self._settled.wait()
            else:
                raise self._spent(most)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise _Stopped

    def _spent(self, most: TokenCost) -> InputError:
        spent, budget = self._ledger.spent, self._config.budget
        limits = []
        if budget.tokens is not None:
            tokens = spent.tokens_in + spent.tokens_out
            next_one = most.tokens_in + most.tokens_out
            limits.append(f"{tokens:,} of {budget.tokens:,} tokens (the next needs {next_one:,})")
        if budget.money is not None:
            limits.append(f"{spent.money:.4f} of {budget.money:.4f} in money")
        users = self._whole_users()
        hint = "raise it" + (
            f", or have notes of what there is: --users {users}." if users else "."
        )
        where = "--chat.budget-tokens, --chat.budget-money"
        return InputError(f"the budget is spent: {', '.join(limits)}", where=where, hint=hint)

    def _kept(self) -> str:
        """Says what is not lost."""
        return (
            f"{len(self.outcomes):,} questions are answered; the answers are kept in "
            f"{self._ledger.path}, and the same command goes on from there."
        )

    def _whole_users(self) -> int:
        """How many users, in the order of the questions, have all their answers."""
        users = 0
        for unfinished in list(self._unfinished.values())[:-1]:
            if unfinished:
                break
            users += 1
        return users

    def _note(self) -> str:
        spent = self._ledger.spent
        money = f", {spent.money:.4f} in money" if spent.money else ""
        return f"{spent.tokens_in + spent.tokens_out:,} tokens{money}"


def _text_of(answer: ChatResponse) -> str | Rejection:
    if answer.finish == "length":
        return Rejection.CUT_OFF
    return Rejection.REFUSED if answer.finish == REFUSED else read_answer(answer.content)
