"""Several servers behind one backend, the check before a run, the provider's name, proxies."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from typing import Any

import pytest

from dataset_builder.captioning.backends import openai_chat
from dataset_builder.captioning.backends.endpoints import EndpointPool, is_private_host, provider_label
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.requests import Answer, Fault
from lpmc_errors import EndpointError, UsageError
from tests.chat_asking import DEAD, SECRET, answering, ask, only, request
from tests.chat_double import ChatDouble


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# --- several servers ---


def test_requests_go_to_the_server_with_the_fewest_under_way() -> None:
    with ChatDouble(lambda number, message: 0.4) as slow, ChatDouble(lambda number, message: 0.02) as fast:

        async def run() -> None:
            backend = ChatBackend("double", base_url=[slow.url, fast.url])
            work = iter(range(80))

            async def worker() -> None:
                for number in work:
                    (result,) = await backend.answer([request(f"x\n{number}")])
                    assert isinstance(result, Answer)

            await asyncio.gather(*(worker() for _ in range(6)))
            await backend.close()

        asyncio.run(run())
        assert len(slow.log) + len(fast.log) == 80
        assert len(fast.log) > 3 * len(slow.log)
        assert len(slow.log) >= 3


def test_the_run_goes_on_with_the_servers_that_live_and_the_dead_one_is_rarely_asked() -> None:
    with ChatDouble() as server:
        results = ask([DEAD, server.url], *(request(f"x\n{number}") for number in range(40)))
        assert all(isinstance(result, Answer) for result in results)
        assert len(server.log) == 40


def test_a_server_that_sends_503_is_left_alone_while_another_lives() -> None:
    with answering((503, {}, {"error": {"message": "loading"}})) as loading, ChatDouble() as server:
        results = ask([loading.url, server.url], *(request(f"x\n{number}") for number in range(40)))
        assert len(loading.log) <= 2
        assert Counter(type(result).__name__ for result in results) == {
            "Answer": 40 - len(loading.log),
            "Fault": len(loading.log),
        }


def test_a_server_that_comes_back_gets_requests_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_builder.captioning.backends.endpoints.REST_FIRST_S", 0.05)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with ChatDouble() as server:

        async def run() -> None:
            backend = ChatBackend("double", base_url=[f"http://127.0.0.1:{port}/v1", server.url])
            for number in range(5):
                assert isinstance((await backend.answer([request(f"x\n{number}")]))[0], Answer)
            with ChatDouble(port=port) as returned:
                await asyncio.sleep(0.5)
                for number in range(10):
                    await backend.answer([request(f"x\n{number}")])
                assert len(returned.log) >= 4
            await backend.close()

        asyncio.run(run())


def test_when_every_server_is_dead_each_request_is_one_fault() -> None:
    results = ask([DEAD, "http://127.0.0.1:10/v1"], request(), request())
    assert [result.kind for result in results if isinstance(result, Fault)] == ["unavailable"] * 2


def pool_after(misses: int, **options: Any) -> tuple[EndpointPool, list[float]]:
    pool = EndpointPool(["a", "b"], **options)
    now, rests = 0.0, []
    for _ in range(misses):
        a = pool.endpoints[0]
        now = a.resting_until
        picked = [pool.pick(now), pool.pick(now)]
        assert a in picked
        for endpoint in picked:
            assert endpoint is not None
            pool.release(endpoint, now, reached=endpoint is not a)
        rests.append(a.resting_until - now)
    return pool, rests


def test_a_server_that_stays_dead_rests_longer_each_time_up_to_a_minute() -> None:
    _, rests = pool_after(9)
    for number, rest in enumerate(rests):
        assert min(60, 2**number) / 2 <= rest <= min(60, 2**number)


def test_after_its_rest_a_server_is_tried_with_one_request() -> None:
    pool, _ = pool_after(3)
    a, b = pool.endpoints
    picked = [pool.pick(a.resting_until) for _ in range(6)]
    assert picked.count(a) == 1
    assert picked.count(b) == 5
    pool.release(a, a.resting_until, reached=True)
    assert pool.pick(0.0) is a


def test_many_requests_that_fail_together_are_one_miss() -> None:
    pool = EndpointPool(["a", "b"])
    picked = [pool.pick(0.0) for _ in range(40)]
    for endpoint in picked:
        assert endpoint is not None
        pool.release(endpoint, 5.0, reached=endpoint.url != "a")
    assert pool.endpoints[0].misses == 1
    assert pool.endpoints[0].resting_until <= 6.0
    assert [endpoint.under_way for endpoint in pool.endpoints] == [0, 0]


def test_when_all_rest_the_first_to_wake_is_asked_and_a_second_server_only_while_it_is_awake() -> None:
    pool = EndpointPool(["a", "b"])
    a, b = pool.endpoints
    for endpoint in (pool.pick(0.0), pool.pick(0.0)):
        assert endpoint is not None
        pool.release(endpoint, 0.0, reached=False)
    a.resting_until, b.resting_until = 9.0, 3.0
    assert pool.pick(1.0) is b
    assert pool.pick(1.0, tried=[b]) is None


# --- check ---


def check(*urls: str, **options: Any) -> ChatBackend:
    async def run() -> ChatBackend:
        backend = ChatBackend("double", base_url=list(urls), api_key=SECRET, **options)
        try:
            await backend.check()
        finally:
            await backend.close()
        return backend

    return asyncio.run(run())


@pytest.mark.parametrize("models", [None, (404, {}, {}), (503, {}, {}), (200, {}, b"<html>"), (500, {}, b"x")])
def test_a_server_that_answers_anything_but_a_refused_key_passes_the_check(models: Any) -> None:
    with ChatDouble(models=models) as server:
        assert check(server.url).unreachable == ()
        assert server.checks == 1
        assert server.log == []


def test_the_check_names_the_servers_that_do_not_answer_and_needs_one_that_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ChatDouble() as server:
        assert check(server.url, DEAD).unreachable == (DEAD,)
    assert f"{DEAD}: cannot be reached" in caplog.text
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9/v1 and 1 more: cannot be reached .*; start the server"):
        check(DEAD, "http://127.0.0.1:10/v1")


def test_the_check_refuses_a_wrong_key_at_any_server() -> None:
    with ChatDouble() as open_server, ChatDouble(key="right") as closed:
        with pytest.raises(EndpointError, match="401") as raised:
            check(open_server.url, closed.url)
        assert SECRET not in str(raised.value)
        assert closed.url in str(raised.value)


def test_the_check_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_chat, "CHECK_TIMEOUT_S", 0.3)
    with ChatDouble(models=5) as server:
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"no answer within 0\.3 s"):
            check(server.url)
        assert time.monotonic() - began < 3


# --- provider ---


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("192.168.1.7", True),
        ("172.20.0.2", True),
        ("169.254.3.4", True),
        ("100.100.7.7", True),
        ("fd00::12", True),
        ("fe80::1", True),
        ("gpu7", True),
        ("gpu7.local", True),
        ("vllm.team.svc.cluster.local.", True),
        ("node.eu.internal", True),
        ("api.openai.com", False),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("mylocal.com", False),
        ("internal.example.com", False),
    ],
)
def test_own_machines_are_told_from_public_hosts_by_name_and_address(host: str, private: bool) -> None:
    assert is_private_host(host) is private


@pytest.mark.parametrize(
    ("urls", "label", "expected"),
    [
        (["http://127.0.0.1:8000/v1"], None, "self-hosted"),
        (["http://127.0.0.1:8001/v1", "http://gpu1:8000/v1", "http://[fd00::1]:1/v1"], None, "self-hosted"),
        (["https://API.openai.com:8443/v1"], None, "api.openai.com"),
        (["https://api.openai.com/v1", "https://api.openai.com/eu/v1"], None, "api.openai.com"),
        (["https://a.example.com/v1", "https://b.example.com/v1"], "ours", "ours"),
        (["http://127.0.0.1:8000/v1"], "ours", "ours"),
    ],
)
def test_the_provider_is_the_label_or_self_hosted_or_the_public_host_and_never_a_port(
    urls: list[str], label: str | None, expected: str
) -> None:
    assert provider_label(urls, label) == expected
    assert ChatBackend("m", base_url=urls, api_key="k", provider=label).provider == expected


def test_servers_of_different_providers_need_one_name() -> None:
    for other in ("https://b.example.com/v1", "http://127.0.0.1:8000/v1"):
        with pytest.raises(UsageError, match=r"different providers .*--provider"):
            ChatBackend("m", base_url=["https://a.example.com/v1", other], api_key="k")


# --- proxies ---


@pytest.mark.parametrize(
    ("host", "no_proxy", "through_proxy"),
    [("llm.invalid", "", True), ("llm.invalid", "llm.invalid", False), ("127.0.0.1", "", False)],
)
def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine_or_excepted_hosts(
    monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, through_proxy: bool
) -> None:
    with ChatDouble() as proxy, ChatDouble() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", no_proxy)
        result = only(f"http://{host}:{server.port}/v1")
        assert len(proxy.log) == through_proxy
        assert len(server.log) == (host == "127.0.0.1")
        assert isinstance(result, Answer if through_proxy or host == "127.0.0.1" else Fault)
