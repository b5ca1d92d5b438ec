"""What is asked of a provider: tools, structured output, settings."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from mesh.models.api import ModelRequest, OutputSpec, ToolSpec

# Between two pieces of an answer. A model that thinks without saying so may be silent for minutes.
STALL_S: Final = 300.0


def settings_of(request: ModelRequest) -> ModelSettings:
    """The settings of a request; the SDK's own, silent retries are always off.

    So is a text that pydantic-ai would put before our instructions to explain a feature we do not use: what is sent is
    what the log says was sent.
    """
    given: dict[str, Any] = {"timeout": STALL_S, "framing_announcement": "never", **request.settings, "max_retries": 0}
    return cast(ModelSettings, given)


def parameters_of(request: ModelRequest, model: Model) -> ModelRequestParameters:
    """The tools, and the structured output in the mode that suits the model."""
    tools = [_tool(tool) for tool in request.tools]
    spec = request.output
    if spec is None:
        return ModelRequestParameters(function_tools=tools)
    mode = model.profile.get("default_structured_output_mode", "tool") if spec.mode == "auto" else spec.mode
    if mode == "tool":
        return ModelRequestParameters(
            function_tools=tools, output_mode="tool", output_tools=[_output_tool(spec)], allow_text_output=False
        )
    answer = OutputObjectDefinition(json_schema=spec.schema, name=spec.name, description=spec.description or None)
    return ModelRequestParameters(
        function_tools=tools, output_mode="native" if mode == "native" else "prompted", output_object=answer
    )


def _tool(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(name=tool.name, description=tool.description or None, parameters_json_schema=tool.schema)


def _output_tool(spec: OutputSpec) -> ToolDefinition:
    return ToolDefinition(
        name=spec.name,
        description=spec.description or "The final answer, in the form that is asked for.",
        parameters_json_schema=spec.schema,
        kind="output",
    )
