"""The two streaming protocols of OpenAI, as frames."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Protocol

import msgspec
from msgspec import Struct

USAGE = {"input": 11, "output": 7, "cached": 3, "reasoning": 2}


class Text(Struct):
    pieces: list[str]


class Thought(Struct):
    pieces: list[str]
    sealed: str = ""


class ToolCall(Struct):
    call: str
    tool: str
    pieces: list[str]


Piece = Text | Thought | ToolCall


class Wire(Protocol):
    """One protocol: what a provider sends, and where in a request it wants things."""

    prefix: str
    path: str
    api: str

    def parts(self, *parts: Piece) -> list[str]: ...

    def end(self, reason: str = "stop", *, usage: bool = True) -> list[str]: ...

    def error(self, code: str, message: str) -> list[str]: ...

    def last_tool_output(self, body: Any) -> str: ...


class Chat:
    """Chat completions."""

    prefix, path, api = "openai-chat", "/v1/chat/completions", "OpenAIChat"

    def parts(self, *parts: Piece) -> list[str]:
        frames = []
        for part in parts:
            if isinstance(part, Thought):
                frames += [self._delta({"reasoning_content": piece}) for piece in part.pieces]
            elif isinstance(part, Text):
                frames += [self._delta({"content": piece}) for piece in part.pieces]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        for number, call in enumerate(calls):
            head = {"index": number, "id": call.call, "type": "function"}
            frames.append(self._delta({"tool_calls": [{**head, "function": {"name": call.tool, "arguments": ""}}]}))
        for row in zip_longest(*(call.pieces for call in calls)):
            frames += [
                self._delta({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
                for number, piece in enumerate(row)
                if piece is not None
            ]
        return frames

    def end(self, reason: str = "stop", *, usage: bool = True) -> list[str]:
        used = {
            "prompt_tokens": USAGE["input"],
            "completion_tokens": USAGE["output"],
            "total_tokens": USAGE["input"] + USAGE["output"],
            "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
            "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
        }
        last = [self._chunk(choices=[], usage=used)] if usage else []
        return [self._delta({}, finish_reason=reason), *last, "data: [DONE]\n\n"]

    def error(self, code: str, message: str) -> list[str]:
        return [_data({"error": {"message": message, "type": code, "code": code, "param": None}})]

    def last_tool_output(self, body: Any) -> str:
        return str(body["messages"][-1]["content"])

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        return self._chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    def _chunk(self, **given: Any) -> str:
        return _data({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini", **given})


class Responses:
    """The Responses API."""

    prefix, path, api = "openai", "/v1/responses", "OpenAIResponses"

    def parts(self, *parts: Piece) -> list[str]:
        frames = [self._event("response.created", response=self._response("in_progress"))]
        for place, part in enumerate(parts):
            where = {"output_index": place, "item_id": f"item_{place}"}
            match part:
                case Thought():
                    frames += self._thought(part, where)
                case Text():
                    frames += self._text(part, where)
                case ToolCall():
                    frames += self._call(part, where)
        return frames

    def end(self, reason: str = "stop", *, usage: bool = True) -> list[str]:
        used = {
            "input_tokens": USAGE["input"],
            "output_tokens": USAGE["output"],
            "total_tokens": USAGE["input"] + USAGE["output"],
            "input_tokens_details": {"cached_tokens": USAGE["cached"], "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
        }
        whole = self._response("incomplete" if reason == "length" else "completed")
        if reason == "length":
            whole["incomplete_details"] = {"reason": "max_output_tokens"}
        return [self._event(f"response.{whole['status']}", response=whole | ({"usage": used} if usage else {}))]

    def error(self, code: str, message: str) -> list[str]:
        return [self._event("error", code=code, message=message, param=None)]

    def last_tool_output(self, body: Any) -> str:
        return str(body["input"][-1]["output"])

    def _thought(self, part: Thought, where: dict[str, Any]) -> list[str]:
        item = {"id": where["item_id"], "type": "reasoning", "summary": []}
        done = {**item, "summary": [{"type": "summary_text", "text": "".join(part.pieces)}]}
        if part.sealed:
            done["encrypted_content"] = part.sealed
        text = {**where, "summary_index": 0}
        return [
            self._event("response.output_item.added", output_index=where["output_index"], item=item),
            self._event("response.reasoning_summary_part.added", **text, part={"type": "summary_text", "text": ""}),
            *(self._event("response.reasoning_summary_text.delta", **text, delta=piece) for piece in part.pieces),
            self._event("response.output_item.done", output_index=where["output_index"], item=done),
        ]

    def _text(self, part: Text, where: dict[str, Any]) -> list[str]:
        item = {"id": where["item_id"], "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        content = {"type": "output_text", "text": "".join(part.pieces), "annotations": []}
        return [
            self._event("response.output_item.added", output_index=where["output_index"], item=item),
            *(
                self._event("response.output_text.delta", **where, content_index=0, delta=piece, logprobs=[])
                for piece in part.pieces
            ),
            self._event("response.output_text.done", **where, content_index=0, text=content["text"], logprobs=[]),
            self._event(
                "response.output_item.done",
                output_index=where["output_index"],
                item={**item, "status": "completed", "content": [content]},
            ),
        ]

    def _call(self, part: ToolCall, where: dict[str, Any]) -> list[str]:
        whole = "".join(part.pieces)
        item = {"id": where["item_id"], "type": "function_call", "call_id": part.call, "name": part.tool}
        return [
            self._event(
                "response.output_item.added",
                output_index=where["output_index"],
                item={**item, "arguments": "", "status": "in_progress"},
            ),
            *(self._event("response.function_call_arguments.delta", **where, delta=piece) for piece in part.pieces),
            self._event("response.function_call_arguments.done", **where, name=part.tool, arguments=whole),
            self._event(
                "response.output_item.done",
                output_index=where["output_index"],
                item={**item, "arguments": whole, "status": "completed"},
            ),
        ]

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": "r1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "output": [], "tools": [],
            "parallel_tool_calls": True, "tool_choice": "auto", "status": status,
        }  # fmt: skip

    def _event(self, kind: str, **given: Any) -> str:
        return f"event: {kind}\n" + _data({"type": kind, "sequence_number": 0, **given})


def _data(value: Any) -> str:
    return f"data: {msgspec.json.encode(value).decode()}\n\n"
