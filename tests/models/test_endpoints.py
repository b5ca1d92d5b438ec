"""From a model's name to a provider, a key and a server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.errors import ModelNotConfigured
from mesh.models import Endpoint, ModelRequest, Models, Reply, ScriptedModel
from mesh.models.scripted import in_turn
from schemas import error as codes
from schemas.message import Message, Part, user_message
from tests.models.asking import HELLO, events_of, message_of
from tests.models.server import ProviderServer, streams
from tests.models.wires import Chat, Text

CHAT = Chat()


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    models = Models(environ={"LAN_KEY": "lan-key"}, scripts={"demo": ScriptedModel(in_turn(Reply(text="hi")))})
    yield models
    await models.aclose()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("openai:gpt-5-mini", "OPENAI_API_KEY"),
        ("openai-chat:gpt-5-mini", "OPENAI_API_KEY"),
        ("deepseek:deepseek-chat", "DEEPSEEK_API_KEY"),
        ("ollama:qwen3", "OLLAMA_BASE_URL"),
        ("openia:gpt-5-mini", "did you mean openai:gpt-5-mini?"),
        ("scriptd:demo", "did you mean scripted:demo?"),
        ("scripted:dmo", "did you mean scripted:demo?"),
        ("gpt-5-mini", "write provider:model"),
        ("claude-sonet-4-6", "did you mean anthropic:claude-sonnet-4-6?"),
        ("openai:", "write provider:model"),
        ("test", "write provider:model"),
        ("litellm:gpt-5", "base URL"),
        ("sentence-transformers:x", "sentence-transformers"),
    ],
)
async def test_a_model_that_cannot_be_asked_says_what_is_missing(
    models: Models, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    for variable in ("DEEPSEEK_API_KEY", "OLLAMA_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    problem = await models.problem(name)
    assert problem is not None
    assert told in str(problem)
    assert problem.to_error().code == codes.MODEL_NOT_CONFIGURED
    with pytest.raises(ModelNotConfigured) as raised:
        await events_of(models, ModelRequest(model=name, messages=HELLO))
    assert str(raised.value) == str(problem)


async def test_models_that_can_be_asked_have_no_problem(models: Models) -> None:
    assert await models.problem("scripted:demo") is None
    assert await models.problem("openai:gpt-5-mini", Endpoint(key_variable="LAN_KEY")) is None
    assert await models.problem("openai-chat:qwen3", Endpoint(base_url="http://127.0.0.1:1/v1")) is None
    assert await models.problem("litellm:gpt-5", Endpoint(base_url="http://127.0.0.1:1/v1")) is None


async def test_a_key_variable_that_is_not_set_is_named(models: Models) -> None:
    problem = await models.problem("openai:gpt-5-mini", Endpoint(key_variable="OTHER_KEY"))
    assert problem is not None
    assert "OTHER_KEY" in problem.message


async def test_a_provider_without_a_base_url_refuses_one(models: Models) -> None:
    problem = await models.problem("openrouter:x", Endpoint(base_url="http://127.0.0.1:1/v1"))
    assert problem is not None
    assert "takes no base URL" in problem.message


async def test_an_agents_own_server_gets_its_own_key_and_never_the_providers(server: ProviderServer) -> None:
    server.answers += [streams(CHAT.parts(Text(["ok"])) + CHAT.end())] * 2
    models = Models(environ={"OPENAI_API_KEY": "sk-secret", "LAN_KEY": "lan-key"})
    for endpoint in (Endpoint(base_url=server.url), Endpoint(base_url=server.url, key_variable="LAN_KEY")):
        await events_of(models, ModelRequest(model="openai-chat:qwen3", messages=HELLO, endpoint=endpoint))
    await models.aclose()
    keys = [exchange.headers["authorization"] for exchange in server.exchanges]
    assert keys == ["Bearer none", "Bearer lan-key"]
    assert "sk-secret" not in str([exchange.headers for exchange in server.exchanges])


async def test_a_server_for_all_needs_no_key(server: ProviderServer) -> None:
    server.answers.append(streams(CHAT.parts(Text(["ok"])) + CHAT.end()))
    models = Models(environ={"OPENAI_BASE_URL": server.url})
    message = message_of(await events_of(models, ModelRequest(model="openai-chat:qwen3", messages=HELLO)))
    await models.aclose()
    assert message.text == "ok"


async def test_a_server_of_ones_own_is_another_origin_than_the_provider(server: ProviderServer) -> None:
    server.answers += [streams(CHAT.parts(Text(["ok"])) + CHAT.end())] * 2
    models = Models(environ={"OPENAI_BASE_URL": server.url})
    message = message_of(await events_of(models, ModelRequest(model="openai-chat:qwen3", messages=HELLO)))
    assert message.provider.startswith("openai@127.0.0.1:")
    thought = Part(kind="reasoning", text="secret", ext={"id": "reasoning_content"})
    theirs = Message(role="assistant", provider="openai", api="OpenAIChat", parts=(thought, *message.parts))
    conversation = (*HELLO, theirs, user_message("and?"))
    await events_of(models, ModelRequest(model="openai-chat:qwen3", messages=conversation))
    await models.aclose()
    assert "secret" not in str(server.bodies[-1])


async def test_a_price_list_that_does_not_hold_is_not_used(server: ProviderServer) -> None:
    server.answers += [streams(CHAT.parts(Text(["ok"])) + CHAT.end())] * 2
    models = Models(environ={})
    costs = []
    for priced in (True, False):
        endpoint = Endpoint(base_url=server.url, priced=priced)
        events = await events_of(models, ModelRequest(model="openai-chat:x", messages=HELLO, endpoint=endpoint))
        usage = message_of(events).usage
        assert usage is not None
        costs.append(usage.cost)
    await models.aclose()
    assert costs[0] is not None
    assert costs[1] is None


async def test_a_model_that_no_price_list_knows_has_an_unknown_cost(server: ProviderServer) -> None:
    frames = [frame.replace("gpt-5-mini", "my-own-model") for frame in CHAT.parts(Text(["ok"])) + CHAT.end()]
    server.answers.append(streams(frames))
    models = Models(environ={"OPENAI_BASE_URL": server.url})
    message = message_of(await events_of(models, ModelRequest(model="openai-chat:my-own-model", messages=HELLO)))
    await models.aclose()
    assert message.usage is not None
    assert (message.usage.input_tokens, message.usage.cost, message.prices) == (11, None, "")


async def test_closing_closes_the_connections_and_warming_up_needs_no_network(server: ProviderServer) -> None:
    server.answers += [streams(CHAT.parts(Text(["ok"])) + CHAT.end())] * 2
    models = Models(environ={"OPENAI_BASE_URL": server.url})
    await models.warm_up()
    assert server.exchanges == []
    request = ModelRequest(model="openai-chat:qwen3", messages=HELLO)
    for _ in range(2):
        assert message_of(await events_of(models, request)).text == "ok"
        await models.aclose()
    assert server.connections == 2
