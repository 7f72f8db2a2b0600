"""Any provider that litellm knows, as a language model. litellm is installed apart: `pip install litellm`."""

from __future__ import annotations

import importlib
import json
import os
import time
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lm.clients import endpoint_format as wire
from tutelage.lm.model import Capabilities, LanguageModel
from tutelage.lm.request import Completion, Failure, Request


class LiteLLM(LanguageModel):
    """A model by litellm's name of it (`anthropic/…`). Nothing is tried twice, nothing is dropped from a request.

    Args:
        api_key: None leaves it to litellm, which reads the provider's environment variable.
        timeout: seconds until the whole answer must be there.

    Raises `BadInput` where litellm is not installed.
    """

    def __init__(self, model: str, *, api_key: str | None = None, timeout: float = 600.0) -> None:
        # Otherwise litellm asks the network for a table of prices when it is imported.
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        try:
            self._litellm: Any = importlib.import_module("litellm")
        except ImportError:
            raise BadInput("litellm is not installed: pip install litellm") from None
        self.model, self.identity = model, f"litellm:{model}"
        self.capabilities = Capabilities(logprobs=20)
        self._options = {"timeout": timeout, "max_retries": 0, **({"api_key": api_key} if api_key else {})}
        self._secret = wire.Hidden(api_key or "")

    def __repr__(self) -> str:
        return f"LiteLLM({self.model!r})"

    async def complete(self, request: Request) -> Completion:
        start = time.perf_counter()
        body = wire.body_of(request, self.model, chat=bool(request.messages))
        call = self._litellm.acompletion if request.messages else self._litellm.atext_completion
        try:
            answer = await call(**body, **self._options)
            completion = wire.completion_of(answer.model_dump(), request)
        except wire.Malformed as error:
            return Completion.failed(Failure("malformed", self._secret.taken_out(str(error))), self.model)
        except Exception as error:  # litellm gives every provider's errors a status_code, some of its own have none
            status = getattr(error, "status_code", None)
            said = json.dumps({"error": {"message": str(error)}}).encode()
            headers = getattr(getattr(error, "response", None), "headers", None) or {}
            failure, _, _ = wire.failure_of(status if isinstance(status, int) else 500, headers, said)
            message = self._secret.taken_out(f"{self.identity}: {failure.message}")
            return Completion.failed(Failure(failure.kind, message, status, failure.retry_after), self.model)
        return completion.replace(latency=time.perf_counter() - start, model=completion.model or self.model)
