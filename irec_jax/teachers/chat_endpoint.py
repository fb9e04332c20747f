"""One request to an OpenAI-compatible chat endpoint: body, largest cost and response."""

import asyncio
import dataclasses
import email.utils
import hashlib
import json
import math
import os
import re
import time
import urllib.parse
from typing import Any, Literal, NamedTuple

from irec_jax.bounds import PRICE, TEMPERATURE, Range, check_settings
from irec_jax.errors import InputError
from irec_jax.teachers.cost_ledger import Budget, ChatResponse, Prices, TokenCost
from irec_jax.text_cleaning import clean

LengthKey = Literal["max_tokens", "max_completion_tokens"]

REFUSED = "refused"
"""`ChatResponse.finish` if the endpoint declined to answer."""

MASK = "***"
"""Replaces a secret in messages."""

_MESSAGE_TOKENS = 64  # upper bound of the tokens that a chat template adds to a message
_UNSENT_ERRORS = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
}
_RETRYABLE_STATUSES = {408, 409, 425, 429}
_REFUSAL_CODES = {"content_filter", "content_policy_violation", "context_length_exceeded"}
_NO_CREDIT_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
_MESSAGE_LENGTH = 200  # characters of an endpoint's error message that are shown


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """The chat endpoint and the settings of its requests.

    Attributes:
        base_url: URL of an OpenAI-compatible endpoint; it usually ends in /v1.
        model: Name of the model at the endpoint.
        key_variable: Environment variable with the API key; a local server may need none.
        concurrency: Largest number of requests in flight.
        timeout_s: Timeout of one request in seconds.
        retries: How often a request is repeated after a connection error, 429 or 5xx.
        first_wait_s: Seconds before the first retry; doubled for each further one.
        longest_wait_s: Longest wait before a retry in seconds.
        temperature: Sampling temperature; None leaves it to the endpoint.
        answer_tokens: Largest number of tokens of a response; reasoning models need more.
        length_key: The endpoint's name of that limit.
        json_mode: Whether the endpoint is asked for a JSON object.
        seeded: Whether a seed is sent.
        price_in: Price of a million tokens of requests, in any currency.
        price_out: Price of a million tokens of responses.
        budget_tokens: Largest number of tokens of all runs with the same file of responses.
        budget_money: Largest price of all these runs, in the same currency.
    """

    base_url: str = "http://localhost:8000/v1"
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0
    temperature: float | None = 0.7
    answer_tokens: int = 200
    length_key: LengthKey = "max_tokens"
    json_mode: bool = True
    seeded: bool = True
    price_in: float = 0.0
    price_out: float = 0.0
    budget_tokens: int | None = None
    budget_money: float | None = None

    def __post_init__(self) -> None:
        seconds = Range(0, 86_400)
        check_settings(
            self,
            "--chat.",
            concurrency=Range(1, 10_000),
            timeout_s=Range(0, 86_400, above=True),
            retries=Range(0, 1_000),
            first_wait_s=seconds,
            longest_wait_s=seconds,
            temperature=TEMPERATURE,
            answer_tokens=Range(1, 10**6),
            price_in=PRICE,
            price_out=PRICE,
            budget_tokens=Range(0, 10**15),
            budget_money=PRICE,
        )
        if not _is_url(self.base_url):
            what = f"{self.shown_url!r} is not a valid URL"
            hint = "Give a URL such as http://localhost:8000/v1."
            raise InputError(what, where="--chat.base-url", hint=hint)
        if self.budget_money is not None and not (self.price_in or self.price_out):
            raise InputError(
                "a price limit needs prices, got none",
                where=_flag("budget_money"),
                hint="Set --chat.price-in and --chat.price-out, the prices of a million tokens.",
            )

    @property
    def shown_url(self) -> str:
        """The URL without its secrets, for messages."""
        return mask_url(self.base_url)

    def api_key(self) -> str:
        """Returns the API key from the environment, "" if it is not set.

        Raises:
            InputError: A character is not allowed in an HTTP header; the message hides the key.
        """
        key = os.environ.get(self.key_variable, "")
        if not (key.isascii() and key.isprintable() and key == key.strip()):
            raise InputError(
                "the API key holds characters that cannot be sent",
                where=f"the environment variable {self.key_variable}",
                hint="Set it to the key alone: ASCII without spaces or line breaks around it.",
            )
        return key

    @property
    def prices(self) -> Prices:
        """Prices of a million tokens."""
        return Prices(self.price_in, self.price_out)

    @property
    def budget(self) -> Budget:
        """Limits of the costs."""
        return Budget(self.budget_tokens, self.budget_money)

    def body(self, messages: tuple[tuple[str, str], ...], seed: int) -> dict[str, Any]:
        """Returns the JSON body of a request."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            self.length_key: self.answer_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.seeded:
            body["seed"] = seed
        if self.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body

    def max_cost(self, messages: tuple[tuple[str, str], ...]) -> TokenCost:
        """Returns the largest cost of a request: a token has at least one byte of UTF-8."""
        read = sum(len(text.encode("utf-8", "replace")) + _MESSAGE_TOKENS for _, text in messages)
        return self.prices.cost(read, self.answer_tokens)


def request_key(body: dict[str, Any], nonce: int) -> str:
    """Returns the SHA-256 of a request body and the number of its attempt."""
    text = json.dumps([body, nonce], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class RequestFailure(NamedTuple):
    """A request without a response that may be sent again.

    Attributes:
        problem: A short description.
        is_unbilled: Whether the request certainly had no cost.
        retry_after_s: Seconds to wait according to the endpoint.
    """

    problem: str
    is_unbilled: bool
    retry_after_s: float = 0.0


class ChatEndpoint:
    """Client of a chat endpoint; an asynchronous context manager.

    Args:
        config: The endpoint.

    Raises:
        InputError: The package `openai` is not installed, or no model is named.
    """

    def __init__(self, config: ChatConfig) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError(
                "the teacher `chat` needs the package openai, which is not installed",
                where="--by chat",
                hint="Run `pip install 'irec-jax[chat]'`.",
            ) from error
        if not config.model:
            hint = "Set it to the endpoint's name of the model."
            raise InputError("no model is named", where="--chat.model", hint=hint)
        self._openai, self._config = openai, config
        self._secret = config.api_key()
        # The client's own retries would bypass the ledger and the budget: decision 0196.
        self._client = openai.AsyncOpenAI(
            api_key=self._secret or "none",
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=0,
        )

    async def __aenter__(self) -> "ChatEndpoint":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def send(
        self, body: dict[str, Any], max_cost: TokenCost
    ) -> ChatResponse | RequestFailure:
        """Sends one request.

        Args:
            body: As `ChatConfig.body` makes it.
            max_cost: Its cost if the response has no usage.

        Raises:
            InputError: The endpoint answers with an error that a retry does not solve.
        """
        try:
            # The client's timeout is per read; a slow stream could exceed it without end.
            async with asyncio.timeout(2 * self._config.timeout_s):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
        except self._openai.APIStatusError as error:
            return self._read_error(error)
        except self._openai.APIConnectionError as error:
            kinds = {kind.__name__ for kind in type(error.__cause__).__mro__}
            is_timeout = isinstance(error, self._openai.APITimeoutError)
            cause = type(error.__cause__).__name__
            problem = f"{'timed out' if is_timeout else 'no response'} ({cause})"
            return RequestFailure(problem, is_unbilled=bool(kinds & _UNSENT_ERRORS))
        except TimeoutError:
            return RequestFailure("timed out", is_unbilled=False)
        return self._parse(raw.text, max_cost)

    def _parse(self, text: str, max_cost: TokenCost) -> ChatResponse | RequestFailure:
        """Parses the body of a response; a malformed one may have been billed."""
        try:
            value = json.loads(text)
            choice = value["choices"][0]
            message = choice["message"]
            content = message.get("content") or ""
            finish = REFUSED if message.get("refusal") else choice.get("finish_reason") or "stop"
            usage = value.get("usage") or {}
            known = "prompt_tokens" in usage and "completion_tokens" in usage
            cost = max_cost
            if known:
                cost = self._config.prices.cost(
                    int(usage["prompt_tokens"]), int(usage["completion_tokens"])
                )
            if not isinstance(content, str):
                raise TypeError("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return RequestFailure("malformed response", is_unbilled=False)
        finish = REFUSED if finish == "content_filter" else str(finish)
        return ChatResponse(content, finish, cost)

    def _read_error(self, error: Any) -> ChatResponse | RequestFailure:
        status, code = error.status_code, str(getattr(error, "code", "") or "")
        if code in _REFUSAL_CODES:
            return ChatResponse("", REFUSED, TokenCost())
        if code not in _NO_CREDIT_CODES and (status in _RETRYABLE_STATUSES or status >= 500):
            wait = retry_after(error.response.headers.get("retry-after", ""), time.time())
            return RequestFailure(f"status {status}", is_unbilled=True, retry_after_s=wait)
        message, where, hint = self._error_message(error), self._config.shown_url, ""
        if status in (401, 403):
            # The endpoint's message may contain a part of the key.
            message, variable = "", self._config.key_variable
            where = f"{where} (key from {variable})"
            hint = f"Set the environment variable {variable} to a valid key."
            if not self._secret:
                hint = f"{hint} It is not set."
        elif status == 404:
            hint = "Check --chat.base-url, which usually ends in /v1, and --chat.model."
        elif code in _NO_CREDIT_CODES:
            hint = "Add credit to the account."
        elif status in (400, 422):
            hint = (
                "Change the setting that the endpoint rejects: --chat.length-key, "
                "--chat.no-json-mode, --chat.no-seeded or --chat.temperature None."
            )
        raise InputError(
            f"the endpoint answers {status} {message}".rstrip(), where=where, hint=hint
        )

    def _error_message(self, error: Any) -> str:
        body = error.body
        message = body.get("message", "") if isinstance(body, dict) else ""
        message = clean(str(message))
        for secret in (self._secret, urllib.parse.urlsplit(self._config.base_url).password):
            message = message.replace(secret, MASK) if secret else message
        return message[:_MESSAGE_LENGTH]


def retry_after(header: str, now: float) -> float:
    """Parses the header `Retry-After`: seconds, or a date.

    Args:
        header: The value, "" if missing.
        now: Unix time in seconds.

    Returns:
        Seconds to wait, 0 if the value is missing or malformed.

    >>> retry_after("1.5", 0.0), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 50.0)
    (1.5, 10.0)
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def mask_url(url: str) -> str:
    """Masks the user, the password and the query of a URL, which may be secrets.

    A password with a slash makes the URL invalid and is masked, too.

    >>> mask_url("http://me:pass/word@localhost:8000/v1?key=1")
    'http://***@localhost:8000/v1?***'
    """
    url = re.sub(r"^(\w+://)?.*@", rf"\1{MASK}@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", f"?{MASK}", url, flags=re.DOTALL)


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        # `parts.port` raises for an invalid port.
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_text = text.isprintable() and " " not in text
    return is_address and is_text and parts.scheme in ("http", "https")


def _flag(key: str) -> str:
    return f"--chat.{key.replace('_', '-')}"
