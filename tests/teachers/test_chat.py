"""A chat endpoint with every fault: no text lost or duplicated, no cost doubled or over budget."""

import collections
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.log.split import Split
from irec_jax.teachers.chat import request_texts
from irec_jax.teachers.chat_endpoint import ChatConfig, retry_after
from irec_jax.teachers.cost_ledger import Budget, ChatResponse, CostLedger, Prices, TokenCost
from irec_jax.teachers.results import TextResult, collect_texts, summarize
from irec_jax.teachers.teacher_prompts import (
    ChatPromptWriter,
    RequestScope,
    make_requests,
    wanted_texts,
)
from irec_jax.teachers.text_checks import Rejection

from .chat_server import FAULTS, KEY, UNBILLED, UNKNOWN_COST, ChatServer, serve

SCOPE = RequestScope(languages=("en", "zh"), events=4, reasons=True, seed=3)
QUICK = {"timeout_s": 0.6, "first_wait_s": 0.01, "longest_wait_s": 2.0, "model": "tester"}
REJECTED_FOR = {
    "cut off": Rejection.CUT_OFF,
    "half JSON": Rejection.NOT_JSON,
    "empty": Rejection.EMPTY,
    "target": Rejection.NAMES_ITEM,
}


@pytest.fixture
def split(make) -> Split:
    """Five users without common items, so that all requests differ."""
    ends = [6, 11, 14, 16, 17]
    histories = [list(range(start, end)) for start, end in zip([0, *ends], ends, strict=False)]
    return make(histories, [f"Brand{n} lamp model{n}" for n in range(17)])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


# For plans without a slow response: on a busy machine a quick timeout could end a good request.
PATIENT = {"timeout_s": 30.0}


def config_for(server: ChatServer, **settings) -> ChatConfig:
    return ChatConfig(base_url=server.url, **{**QUICK, **settings})


def teach(
    split: Split, config: ChatConfig, path: Path, scope: RequestScope = SCOPE
) -> tuple[list[TextResult], CostLedger]:
    requests = make_requests(split, scope, ChatPromptWriter.build(split, "shop"))
    with CostLedger(path, config.budget) as ledger:
        total = sum(1 for _ in wanted_texts(split, scope))
        return request_texts(requests, config, ledger, total=total, seed=scope.seed), ledger


def spread(every: int, faults: Sequence[str]):
    """Returns a plan with one fault in `every` requests, each fault in turn."""
    return lambda number: "" if number % every else faults[number // every % len(faults)]


def every_fault(number: int) -> str:
    """All faults but a wrong key; the slow one occurs once."""
    return "429 date" if number == 41 else spread(2, [*FAULTS[1:3], *FAULTS[4:]])(number)


def total(cost: TokenCost) -> int:
    return cost.tokens_in + cost.tokens_out


def test_with_every_fault_each_request_has_one_result_and_the_ledger_is_exact(
    split: Split, tmp_path: Path
):
    path = tmp_path / "answers.jsonl"
    with serve(every_fault, delay=0.005) as server:
        # On a slow machine one text may meet many of the faults.
        config = config_for(server, concurrency=4, retries=50, price_in=2.0, price_out=8.0)
        results, ledger = teach(split, config, path)
        faults = collections.Counter(server.faults)
        assert set(faults) == {"", *FAULTS[1:]}, "too few requests for every fault"
        wanted = list(wanted_texts(split, SCOPE))
        assert sorted(map(repr, (o.wanted for o in results))) == sorted(map(repr, wanted))
        assert 1 < server.most_at_once <= 4

        failed = sum(faults[fault] for fault in (*UNBILLED, *UNKNOWN_COST))
        assert ledger.counts.requests == len(server.requests)
        assert ledger.counts.retries == failed
        assert ledger.counts.paid == len(server.requests) - failed
        assert [ledger.settled.tokens_in, ledger.settled.tokens_out] == server.reported
        assert ledger.settled.money == pytest.approx(
            (2.0 * server.reported[0] + 8.0 * server.reported[1]) / 1e6
        )
        unknown_costs = [
            config.max_cost(tuple((m["role"], m["content"]) for m in body["messages"]))
            for body, fault in zip(server.requests, server.faults, strict=True)
            if fault in UNKNOWN_COST
        ]
        assert ledger.unsettled == TokenCost.total(unknown_costs)
        assert sum(server.billed) <= total(ledger.spent)

        manifest = summarize(results, split, SCOPE, "chat", "tester")
        expected = {r.value: faults[fault] for fault, r in REJECTED_FOR.items()}
        assert manifest.rejected == dict(sorted(expected.items()))
        assert [manifest.tokens_in, manifest.tokens_out] == server.reported
        assert manifest.responses == ledger.counts.paid
        for result in results:
            assert bool(result.text) == (len(result.rejections) < 3)
        assert sum(bool(result.text) for result in results) > 0.9 * len(wanted)

        sent = len(server.requests)
        repeated, ledger = teach(split, config, path)
        assert len(server.requests) == sent, "something was paid twice"
        assert ledger.counts.cached == manifest.responses
        assert ledger.counts.requests == 0
        assert summarize(repeated, split, SCOPE, "chat", "tester") == manifest
        by_user = sorted(collect_texts(repeated, "chat", "tester"), key=repr)
        assert by_user == sorted(collect_texts(results, "chat", "tester"), key=repr)
    assert KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_budget_is_never_exceeded_and_a_larger_one_continues(
    split: Split, tmp_path: Path, share: float
):
    path = tmp_path / "answers.jsonl"
    with serve(delay=0.002) as server:
        teach(split, config_for(server), tmp_path / "free.jsonl")
        whole = sum(server.billed)
    limit = int(whole * share)
    faults = ("time-out", "500", "cut off", "429 seconds")
    with serve(spread(7, faults), delay=0.002) as server:
        config = config_for(server, concurrency=5, budget_tokens=limit)
        with pytest.raises(InputError, match="the budget is spent") as caught:
            teach(split, config, path)
        assert sum(server.billed) <= limit
        assert str(path) in str(caught.value)
        with CostLedger(path, config.budget) as ledger:
            assert total(ledger.spent) <= limit
            assert total(ledger.settled) == sum(server.reported)
        sent = len(server.requests)
        with pytest.raises(InputError, match="the budget is spent"):
            teach(split, config, path)
        assert len(server.requests) == sent, "a spent budget sends nothing"

        results, ledger = teach(split, config_for(server, budget_tokens=10 * whole), path)
        assert len(results) == sum(1 for _ in wanted_texts(split, SCOPE))
        assert total(ledger.settled) == sum(server.reported)
        paid = [
            json.dumps(body)
            for body, fault in zip(server.requests, server.faults, strict=True)
            if fault in ("", "cut off")
        ]
        assert len(paid) == len(set(paid)), "something was paid twice"


def test_a_price_limit_is_never_exceeded(split: Split, tmp_path: Path):
    with serve() as server:
        prices = {"price_in": 3.0, "price_out": 15.0}
        config = config_for(server, budget_money=0.01, **prices)
        with pytest.raises(InputError, match=r"of 0\.0100 in the prices' currency"):
            teach(split, config, tmp_path / "answers.jsonl")
        paid = (3.0 * server.billed[0] + 15.0 * server.billed[1]) / 1e6
        assert 0.002 < paid <= 0.01
    with pytest.raises(InputError, match="a price limit needs prices"):
        ChatConfig(budget_money=1.0)


def test_a_spent_budget_names_the_number_of_complete_users(split: Split, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    with serve() as server:
        with pytest.raises(InputError, match=r"--users (\d)") as caught:
            teach(split, config_for(server, budget_tokens=9_000), path)
        users = int(str(caught.value).split("--users ")[1][0])
        sent = len(server.requests)
        scope = RequestScope(languages=("en", "zh"), users=users, events=4, reasons=True, seed=3)
        results, _ = teach(split, config_for(server), path, scope)
        assert all(result.text for result in results)
        assert len(server.requests) == sent, "all of them had been paid"


@pytest.mark.parametrize("fault", ["429 seconds", "429 date"])
def test_retry_after_is_respected(split: Split, tmp_path: Path, fault: str):
    with serve(lambda number: fault if number == 5 else "") as server:
        teach(split, config_for(server, concurrency=1), tmp_path / "answers.jsonl")
        assert server.faults[5] == fault
        assert server.times[6] >= server.earliest[5] - 0.02
        assert server.times[6] - server.times[5] < 1.5


def test_a_rejected_response_is_requested_again_with_a_correction(split: Split, tmp_path: Path):
    with serve(["target", "empty"]) as server:
        results, _ = teach(split, config_for(server, concurrency=1), tmp_path / "answers.jsonl")
    first = results[0]
    assert first.rejections == (Rejection.NAMES_ITEM, Rejection.EMPTY)
    assert first.text
    last = [body["messages"][-1]["content"] for body in server.requests[:3]]
    assert last[1].startswith(last[0])
    assert "named an item" in last[1]
    assert "was empty" in last[2]
    assert len({body["seed"] for body in server.requests[:3]}) == 3


def test_a_text_whose_responses_never_pass_is_not_generated(split: Split, tmp_path: Path):
    with serve(lambda number: "half JSON") as server:
        results, ledger = teach(split, config_for(server), tmp_path / "answers.jsonl")
    assert all(o.rejections == (Rejection.NOT_JSON,) * 3 and not o.text for o in results)
    manifest = summarize(results, split, SCOPE, "chat", "tester")
    assert manifest.not_generated == {"not_json": len(results)}
    assert manifest.tokens_out == ledger.settled.tokens_out == server.reported[1] > 0


def test_equal_requests_of_two_users_are_paid_once(make, titles, tmp_path: Path):
    twins = make([[0, 1, 2, 3], [0, 1, 2, 3]], titles)
    scope = RequestScope(languages=("en",), events=0)
    with serve(delay=0.05) as server:
        config = config_for(server, concurrency=6, **PATIENT)
        results, ledger = teach(twins, config, tmp_path / "a.jsonl", scope)
    assert len(server.requests) * 2 == len(results) == 6
    assert ledger.counts.cached == 3
    manifest = summarize(results, twins, scope, "chat", "tester")
    assert [manifest.tokens_in, manifest.tokens_out] == server.billed


@pytest.mark.parametrize("known", [True, False])
def test_a_wrong_key_stops_at_once(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
):
    if known:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    else:
        monkeypatch.delenv("OPENAI_API_KEY")
    with serve() as server:
        with pytest.raises(InputError, match="answers 401") as caught:
            teach(split, config_for(server, concurrency=3, **PATIENT), tmp_path / "answers.jsonl")
        assert len(server.requests) <= 3
        assert "OPENAI_API_KEY" in str(caught.value)
        assert ("is not set" in str(caught.value)) != known
        assert "sk-" not in str(caught.value)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        results, ledger = teach(split, config_for(server), tmp_path / "answers.jsonl")
        assert all(result.text for result in results)
        assert total(ledger.spent) == sum(server.billed)


def test_an_unreachable_endpoint_stops_without_cost(split: Split, tmp_path: Path):
    with serve() as server:
        config = config_for(server, retries=2, concurrency=2)
    with pytest.raises(
        InputError, match=r"no response after 3 requests: no response \(ConnectError\)"
    ):
        teach(split, config, tmp_path / "answers.jsonl")
    with CostLedger(tmp_path / "answers.jsonl", Budget()) as ledger:
        assert ledger.spent == TokenCost()


@pytest.mark.parametrize(
    ("fault", "message", "settings"),
    [
        ("500", "no response after 3 requests: status 500", {"retries": 2}),
        ("429", "no response after 2 requests: status 429", {"retries": 1}),
        ("429 seconds", "asks to wait 0 seconds", {"longest_wait_s": 0.1}),
        ("400 bad_parameter", r"answers 400 no such thing \*\*\*", {}),
        ("400 insufficient_quota", "answers 400 .*\n.*Add credit", {}),
    ],
)
def test_a_permanent_fault_stops_the_run_and_keeps_responses(
    split: Split, tmp_path: Path, fault: str, message: str, settings: dict
):
    path = tmp_path / "answers.jsonl"
    with serve(lambda number: "" if number < 9 else fault) as server:
        with pytest.raises(InputError, match=message) as caught:
            teach(split, config_for(server, concurrency=1, **PATIENT, **settings), path)
        assert KEY not in str(caught.value)
        assert f"kept in {path}" in str(caught.value)
        server.plan = lambda number: ""
        results, ledger = teach(split, config_for(server, **PATIENT), path)
        assert ledger.counts.cached == 9
        assert all(result.text for result in results)
        assert total(ledger.spent) == sum(server.billed)


def test_a_refused_request_is_not_generated_and_not_sent_again(split: Split, tmp_path: Path):
    with serve(lambda number: "400 content_filter") as server:
        config = config_for(server)
        results, ledger = teach(split, config, tmp_path / "answers.jsonl")
        sent = len(server.requests)
        repeated, _ = teach(split, config, tmp_path / "answers.jsonl")
        assert len(server.requests) == sent == 3 * len(results)
    assert {r for result in repeated for r in result.rejections} == {Rejection.REFUSED}
    assert ledger.spent == TokenCost()


def test_the_request_follows_the_settings(split: Split, tmp_path: Path):
    plain = {"temperature": None, "json_mode": False, "seeded": False}
    with serve() as server:
        config = config_for(server, length_key="max_completion_tokens", answer_tokens=77, **plain)
        teach(split, config, tmp_path / "answers.jsonl")
        assert set(server.requests[0]) == {"model", "messages", "max_completion_tokens"}
        assert server.requests[0]["max_completion_tokens"] == 77
        teach(split, config_for(server), tmp_path / "answers.jsonl")
        assert set(server.requests[-1]) == {
            *("model", "messages", "max_tokens", "temperature", "seed", "response_format")
        }


def test_a_missing_openai_package_is_named(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'irec-jax\[chat\]'"):
        teach(split, ChatConfig(model="m"), tmp_path / "answers.jsonl")


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"base_url": "localhost:8000"}, "--chat.base-url"),
        ({"concurrency": 0}, "--chat.concurrency"),
        ({"timeout_s": 0.0}, "--chat.timeout-s"),
        ({"price_in": float("nan")}, "--chat.price-in"),
        ({"budget_tokens": -1}, "--chat.budget-tokens"),
        ({"temperature": -1.0}, "--chat.temperature"),
    ],
)
def test_invalid_settings_name_their_option(settings: dict, where: str):
    with pytest.raises(InputError) as caught:
        ChatConfig(**settings)
    assert caught.value.where == where


def test_retry_after_headers_are_parsed():
    assert retry_after("2", 0.0) == 2.0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1445412470.0) == 10.0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1e10) == 0.0
    for nothing in ("", "soon", "-3", "inf", "nan"):
        assert retry_after(nothing, 0.0) == 0.0


# ---- The ledger


def fill(path: Path) -> list[bytes]:
    """Writes a ledger of 12 requests: with a response, failed, and pending."""
    prices = Prices(1.0, 2.0)
    with CostLedger(path, Budget()) as ledger:
        for number in range(12):
            key = f"{number:064x}"
            ledger.send(key, prices.cost(100 + number, 50))
            if number % 3 == 0:
                ledger.settle(
                    key, ChatResponse(f"é{number}\n", "stop", prices.cost(90 + number, 7))
                )
            elif number % 3 == 1:
                ledger.fail(key)
    return path.read_bytes().splitlines(keepends=True)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_truncated_ledger_keeps_its_complete_lines(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("case") / "ledger.jsonl"
    lines = fill(path)
    size = data.draw(st.integers(0, sum(map(len, lines))))
    path.write_bytes(b"".join(lines)[:size])
    kept, used = [], 0
    for line in lines:
        used += len(line)
        if used <= size:
            kept.append(json.loads(line))
    answers = [line for line in kept if "answer" in line]
    ended = {line.get("answer") or line.get("failed") for line in kept}
    open_lines = [line for line in kept if "sent" in line and line["sent"] not in ended]
    for _ in range(2):  # the first reading removes the incomplete line
        with CostLedger(path, Budget()) as ledger:
            for counted, expected in ((ledger.settled, answers), (ledger.unsettled, open_lines)):
                assert total(counted) == sum(x["tokens_in"] + x["tokens_out"] for x in expected)
            for line in answers:
                result = ledger.find(line["answer"])
                assert result is not None
                assert result.content == line["content"]
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == kept


def test_a_ledger_is_written_by_one_process_at_a_time(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    with (
        CostLedger(path, Budget()),
        pytest.raises(InputError, match="another `irec teach` writes it"),
    ):
        CostLedger(path, Budget())
    CostLedger(path, Budget()).__exit__()


@pytest.mark.parametrize("line", [b"text\n", b"[]\n", b'{"answer": "x"}\n', b'{"failed": "x"}\n'])
def test_a_file_that_is_not_a_ledger_is_refused_and_kept(tmp_path: Path, line: bytes):
    path = tmp_path / "ledger.jsonl"
    lines = [*fill(path), line]
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"line {len(lines)} is not a line of a ledger"):
        CostLedger(path, Budget())
    assert path.read_bytes() == b"".join(lines)


def test_the_total_cost_does_not_depend_on_the_order():
    costs = [TokenCost(1, 1, 0.1 * n) for n in range(1, 40)]
    assert TokenCost.total(costs) == TokenCost.total(costs[::-1])
    assert Budget(tokens=78).covers(TokenCost.total(costs))
    assert not Budget(tokens=77).covers(TokenCost.total(costs))
