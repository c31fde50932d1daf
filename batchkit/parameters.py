"""The parameters that the requests of one tier and step share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from batchkit.policy import Retry
from batchkit.tier import Tier

__all__ = ["opened", "request_params"]

_CACHED_FROM: Final = 4_096
"""Characters of static text from which a cache breakpoint is set; no model caches much less."""


def request_params(
    tier: Tier, step: Retry | None, static: str, schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Give everything of a request but its messages, in the order in which it is written."""
    params = tier.request_params()
    if step is not None:
        params["max_tokens"] = ceil(tier.max_tokens * step.max_tokens)
    if schema is not None:
        shape = {"type": "json_schema", "schema": schema}
        params["output_config"] = {**params.get("output_config", {}), "format": shape}
    params["system"] = static
    if len(static) >= _CACHED_FROM:
        # An hour, because the requests of a batch are spread over longer than the usual five minutes.
        keep = {"type": "ephemeral", "ttl": "1h"}
        params["system"] = [{"type": "text", "text": static, "cache_control": keep}]
    return params


def opened(params: Mapping[str, Any]) -> bytes:
    """Encode an object up to its closing brace. Order is kept: a model writes fields in the schema's order."""
    return json.dumps(params, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()[:-1]
