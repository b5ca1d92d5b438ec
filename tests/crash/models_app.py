"""Agents that ask a provider, by either of its protocols; the tests serve one on the loopback interface."""

from __future__ import annotations

from mesh import Mesh

app = Mesh("models")
app.model_agent("chat", model="openai-chat:gpt-5-mini")
app.model_agent("responses", model="openai:gpt-5-mini")
