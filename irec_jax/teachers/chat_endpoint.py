"""One request to a chat endpoint: what is sent, what it may cost, and what came back."""

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
"""Why an answer ended where the endpoint would not give one."""

MASK = "***"
"""What is shown in the place of a secret."""

_MESSAGE_TOKENS = 64  # of a chat template, for each message, at most
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_PASSING = {408, 409, 425, 429}
_DECLINED = {"content_filter", "content_policy_violation", "context_length_exceeded"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached"}
_TOLD = 200  # characters of what an endpoint says of an error


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """The chat endpoint and how it is asked.

    Attributes:
        base_url: Of any endpoint that speaks OpenAI's protocol; it usually ends in /v1.
        model: The name of the model there.
        key_variable: The environment variable that holds the API key; a local server may need
            none.
        concurrency: Requests under way at a time, at most.
        timeout_s: Seconds that one request may take.
        retries: How often a request is sent again that failed on the way or was turned away.
        first_wait_s: Seconds before the first retry; they double each time.
        longest_wait_s: Seconds between retries, at most.
        temperature: Of the model's draws; None leaves it to the endpoint.
        answer_tokens: Tokens of an answer, at most; models that think first need more.
        length_key: How the endpoint calls that limit.
        json_mode: Whether the endpoint is told to answer in JSON.
        seeded: Whether the endpoint is given a seed.
        price_in: What a million tokens of questions cost.
        price_out: What a million tokens of answers cost.
        budget_tokens: Tokens that may be spent in all, earlier runs included.
        budget_money: The same in money.
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
                "money is limited, and no price is told",
                where=_flag("budget_money"),
                hint="give --chat.price-in and --chat.price-out, for a million tokens.",
            )

    @property
    def shown_url(self) -> str:
        """The URL for messages and files, without its secrets."""
        return mask_url(self.base_url)

    def api_key(self) -> str:
        """Reads the API key from the environment, "" where there is none.

        Raises:
            InputError: It holds what no HTTP header can; the key is not in the message.
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
        """What tokens cost."""
        return Prices(self.price_in, self.price_out)

    @property
    def budget(self) -> Budget:
        """What may be spent."""
        return Budget(self.budget_tokens, self.budget_money)

    def body(self, messages: tuple[tuple[str, str], ...], seed: int) -> dict[str, Any]:
        """Makes a request."""
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

    def most(self, messages: tuple[tuple[str, str], ...]) -> TokenCost:
        """Returns what a request costs at most: a token is at least a byte of UTF-8."""
        read = sum(len(text.encode("utf-8", "replace")) + _MESSAGE_TOKENS for _, text in messages)
        return self.prices.cost(read, self.answer_tokens)


def request_key(body: dict[str, Any], nonce: int) -> str:
    """Returns the SHA-256 of a request and of which time it is asked."""
    text = json.dumps([body, nonce], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Failure(NamedTuple):
    """A request without an answer that may be sent again.

    Attributes:
        told: What went wrong.
        is_free: Whether it surely cost nothing.
        wait_s: Seconds that the endpoint asks to wait.
    """

    told: str
    is_free: bool
    wait_s: float = 0.0


class Endpoint:
    """Sends requests; an asynchronous context manager.

    Args:
        config: Where to, and how.

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
                hint="pip install 'irec-jax[chat]'",
            ) from error
        if not config.model:
            hint = "name the model as the endpoint does."
            raise InputError("no model is named", where="--chat.model", hint=hint)
        self._openai, self._config = openai, config
        self._secret = config.api_key()
        # Retries are ours: the client's would be neither counted nor paid for.
        self._client = openai.AsyncOpenAI(
            api_key=self._secret or "none",
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=0,
        )

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def send(self, body: dict[str, Any], most: TokenCost) -> ChatResponse | Failure:
        """Sends one request.

        Args:
            body: As `ChatConfig.body` makes it.
            most: Its cost where the endpoint does not tell.

        Raises:
            InputError: Sending it again would not help.
        """
        try:
            # The client limits each step, which an endpoint that trickles would stretch.
            async with asyncio.timeout(2 * self._config.timeout_s):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
        except self._openai.APIStatusError as error:
            return self._turned_away(error)
        except self._openai.APIConnectionError as error:
            kinds = {kind.__name__ for kind in type(error.__cause__).__mro__}
            told = "timed out" if isinstance(error, self._openai.APITimeoutError) else "no answer"
            told = f"{told} ({type(error.__cause__).__name__})"
            return Failure(told, is_free=bool(kinds & _NOT_SENT))
        except TimeoutError:
            return Failure("timed out", is_free=False)
        return self._read(raw.text, most)

    def _read(self, text: str, most: TokenCost) -> ChatResponse | Failure:
        """Reads what an endpoint answered; whatever it says costs something."""
        try:
            value = json.loads(text)
            choice = value["choices"][0]
            message = choice["message"]
            content = message.get("content") or ""
            finish = REFUSED if message.get("refusal") else choice.get("finish_reason") or "stop"
            usage = value.get("usage") or {}
            known = "prompt_tokens" in usage and "completion_tokens" in usage
            cost = most
            if known:
                cost = self._config.prices.cost(
                    int(usage["prompt_tokens"]), int(usage["completion_tokens"])
                )
            if not isinstance(content, str):
                raise TypeError("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Failure("an answer that is none", is_free=False)
        finish = REFUSED if finish == "content_filter" else str(finish)
        return ChatResponse(content, finish, cost)

    def _turned_away(self, error: Any) -> ChatResponse | Failure:
        status, code = error.status_code, str(getattr(error, "code", "") or "")
        if code in _DECLINED:
            return ChatResponse("", REFUSED, TokenCost())
        if code not in _NO_CREDIT and (status in _PASSING or status >= 500):
            wait = retry_after(error.response.headers.get("retry-after", ""), time.time())
            return Failure(f"status {status}", is_free=True, wait_s=wait)
        told, where, hint = self._said(error), self._config.shown_url, ""
        if status in (401, 403):
            # What it says may hold a part of the key.
            told, variable = "", self._config.key_variable
            where = f"{where} (key from {variable})"
            hint = f"put a key that is valid there into the environment variable {variable}."
            if not self._secret:
                hint = f"the environment variable {variable} is not set: {hint}"
        elif status == 404:
            hint = "check --chat.base-url, which usually ends in /v1, and --chat.model."
        elif code in _NO_CREDIT:
            hint = "add credit to the account."
        elif status in (400, 422):
            hint = (
                "change what it complains about: --chat.length-key, --chat.no-json-mode, "
                "--chat.no-seeded and --chat.temperature None are there for such endpoints."
            )
        raise InputError(f"the endpoint answers {status} {told}".rstrip(), where=where, hint=hint)

    def _said(self, error: Any) -> str:
        body = error.body
        said = body.get("message", "") if isinstance(body, dict) else ""
        said = clean(str(said))
        for secret in (self._secret, urllib.parse.urlsplit(self._config.base_url).password):
            said = said.replace(secret, MASK) if secret else said
        return said[:_TOLD]


def retry_after(header: str, now: float) -> float:
    """Reads the header `Retry-After`: seconds, or a date.

    Args:
        header: What it says, "" where it is missing.
        now: Seconds since 1970.

    Returns:
        Seconds to wait, 0 where it does not say.

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
    """Replaces the user, the password and the query of a URL, which may be secrets.

    A password with a slash in it makes the URL invalid; it is masked all the same.

    >>> mask_url("http://me:pass/word@localhost:8000/v1?key=1")
    'http://***@localhost:8000/v1?***'
    """
    url = re.sub(r"^(\w+://)?.*@", rf"\1{MASK}@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", f"?{MASK}", url, flags=re.DOTALL)


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        # The port is read when it is asked for.
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_text = text.isprintable() and " " not in text
    return is_address and is_text and parts.scheme in ("http", "https")


def _flag(key: str) -> str:
    return f"--chat.{key.replace('_', '-')}"
