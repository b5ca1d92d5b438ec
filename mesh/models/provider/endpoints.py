"""From `provider:model` to something that can be asked."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Container, Mapping
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import KnownModelName, Model, OpenAIChatCompatibleProvider, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

from mesh.errors import ModelNotConfigured
from mesh.models.api import Endpoint

_OPENAI: Final = frozenset({"openai", "openai-chat", "openai-responses"})
_OPENAI_KEY: Final = "OPENAI_API_KEY"
_OPENAI_URL: Final = "OPENAI_BASE_URL"
# The SDKs insist on a key; servers of one's own often want none.
_NO_KEY: Final = "none"
_FORM: Final = "write provider:model, as openai:gpt-5-mini"
_URL_PARAMETERS: Final = ("base_url", "api_base", "azure_endpoint")
_VARIABLE: Final = re.compile(r"`([A-Z][A-Z0-9_]{2,})`")
_OUR_EXTRAS: Final = frozenset({"anthropic", "bedrock", "cohere", "google", "groq", "huggingface", "mistral", "xai"})
_EXTRA: Final = re.compile(r"pydantic-ai-slim\[([\w-]+)\]")


def make_model(name: str, endpoint: Endpoint, environ: Mapping[str, str], client: httpx2.AsyncClient) -> Model:
    """The model of this name; raises ModelNotConfigured with what is missing."""
    prefix, colon, rest = name.partition(":")
    if not (prefix and colon and rest):
        raise ModelNotConfigured(f"'{name}' is no model", hint=_near_model(name) or _FORM)
    if prefix not in _prefixes() and not _is_provider(prefix):
        raise ModelNotConfigured(f"'{prefix}' of '{name}' is no known provider", hint=_near_provider(prefix, rest))
    try:
        return infer_model(name, provider_factory=lambda prefix: _provider(prefix, name, endpoint, environ, client))
    except ImportError as error:
        raise ModelNotConfigured(f"{name}: a package for '{prefix}' is not installed", hint=_pip(error)) from error
    except UserError as error:
        raise _missing(name, str(error)) from error
    except ModelNotConfigured:
        raise
    except Exception as error:  # an SDK that finds no credentials raises whatever it likes
        raise ModelNotConfigured(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def key_source(name: str, endpoint: Endpoint) -> str:
    """Where the key of a model comes from, as a person is told."""
    if endpoint.key_variable:
        return endpoint.key_variable
    prefix = name.partition(":")[0]
    return _OPENAI_KEY if prefix in _OPENAI and not endpoint.base_url else f"the key of {prefix}"


def own_host(name: str, endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """The host of a server of one's own; empty for the provider's."""
    url = endpoint.base_url or (environ.get(_OPENAI_URL, "") if name.partition(":")[0] in _OPENAI else "")
    return urlsplit(url).netloc.rpartition("@")[2]


def _provider(
    prefix: str, name: str, endpoint: Endpoint, environ: Mapping[str, str], client: httpx2.AsyncClient
) -> Provider[Any]:
    """A provider with our HTTP client where it takes one, and the agent's own URL and key."""
    if prefix.startswith("gateway/"):
        return infer_provider(prefix)
    kind = infer_provider_class(prefix)
    takes = inspect.signature(kind.__init__).parameters
    given = _access(prefix, name, endpoint, environ, takes)
    if "http_client" in takes and re.search("HTTPClient|httpx2", str(takes["http_client"].annotation)):
        given["http_client"] = client
    return kind(**given)


def _access(
    prefix: str, name: str, endpoint: Endpoint, environ: Mapping[str, str], takes: Container[str]
) -> dict[str, Any]:
    """The URL and the key to give to a provider; nothing where it finds its own."""
    given: dict[str, Any] = {}
    if prefix in _OPENAI:
        url = environ.get(_OPENAI_URL) or None
        given = {"base_url": url, "api_key": environ.get(_OPENAI_KEY) or (url and _NO_KEY)}
    if endpoint.base_url:
        parameter = next((parameter for parameter in _URL_PARAMETERS if parameter in takes), None)
        if parameter is None:
            raise ModelNotConfigured(f"{name}: '{prefix}' takes no base URL", hint="use openai-chat: for such a server")
        given = {parameter: endpoint.base_url, "api_key": _NO_KEY}
    elif prefix == "litellm":
        # It would send everything to api.openai.com.
        raise ModelNotConfigured(f"{name} needs the base URL of its proxy", hint="set base_url for the agent")
    if endpoint.key_variable:
        given["api_key"] = environ.get(endpoint.key_variable)
    if "api_key" in given and not given["api_key"]:
        raise _unset(name, endpoint.key_variable or _OPENAI_KEY)
    return given


def _missing(name: str, told: str) -> ModelNotConfigured:
    """Their text names the variable, and then advertises things that we do not have."""
    if variable := _VARIABLE.search(told):
        return _unset(name, variable[1])
    return ModelNotConfigured(f"{name}: {told.partition('. ')[0]}")


def _unset(name: str, variable: str) -> ModelNotConfigured:
    return ModelNotConfigured(f"{name}: {variable} is not set", hint=f"set {variable} where the executor runs")


def _pip(error: ImportError) -> str:
    extra = _EXTRA.search(str(error))
    if extra is None:
        return str(error)
    package = "nats-agent-mesh" if extra[1] in _OUR_EXTRAS else "pydantic-ai-slim"
    return f'pip install "{package}[{extra[1]}]"'


def _is_provider(prefix: str) -> bool:
    try:
        infer_provider_class(prefix)
    except ValueError:
        return False
    except ImportError:
        return True
    return True


def _prefixes() -> set[str]:
    known = {name.partition(":")[0] for name in get_args(KnownModelName.__value__) if ":" in name}
    return known | set(get_args(OpenAIChatCompatibleProvider.__value__)) | {"scripted"}


def _near_provider(prefix: str, model: str) -> str:
    near = difflib.get_close_matches(prefix, sorted(_prefixes()), n=1)
    return f"did you mean {near[0]}:{model}?" if near else _FORM


def _near_model(name: str) -> str | None:
    """The known model that a name without its provider is, or is nearly."""
    known = (full.partition(":") for full in get_args(KnownModelName.__value__) if not full.startswith("gateway/"))
    provider_of = {model: provider for provider, _, model in reversed(list(known))}
    near = difflib.get_close_matches(name, sorted(provider_of), n=1, cutoff=0.85)
    return f"did you mean {provider_of[near[0]]}:{near[0]}?" if near else None
