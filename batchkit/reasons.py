"""The closed list of reason codes, each with a line of prose."""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase


class Reason(str, Enum):
    """Why a row is not (yet) a success. The text before the dot is its family."""

    _value_: str
    prose: str

    def __new__(cls, code: str, prose: str) -> Reason:
        """Make a member that equals its code and carries its prose."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.prose = prose
        return member

    INPUT_MISSING_KEY = "input.missing_key", "The record has no key, so its answer could not be put anywhere."
    INPUT_DUPLICATE_KEY = "input.duplicate_key", "The key stands in the source more than once."
    INPUT_UNENCODABLE = "input.unencodable", "A used field holds a value that cannot be sent as text."
    INPUT_TOO_LARGE = "input.too_large", "The request for this record alone exceeds what the API takes."
    INPUT_SPARSE = "input.sparse", "The record says too little to ask a model; a person decides."
    API_INVALID_REQUEST = "api.invalid_request", "The API refused the request's parameters."
    API_AUTHENTICATION = "api.authentication", "The API did not accept the credential."
    API_BILLING = "api.billing", "The provider reported a billing problem."
    API_PERMISSION = "api.permission", "The credential may not do this."
    API_NOT_FOUND = "api.not_found", "The API did not find the model or resource."
    API_RATE_LIMIT = "api.rate_limit", "The API limited the rate; the row is sent again."
    API_TIMEOUT = "api.timeout", "The API gave up on the request after its own time limit."
    API_SERVER = "api.server", "The API failed internally."
    API_OVERLOADED = "api.overloaded", "The API was overloaded; the row is sent again."
    API_UNKNOWN = (
        "api.unknown",
        "The API gave an error type that is not known; its raw type is in the detail.",
    )
    API_CREDIT = "api.credit", "The account has no credit or met its spend limit; the run pauses."
    BATCH_EXPIRED = "batch.expired", "The batch reached its 24 hour limit before this request was processed."
    BATCH_CANCELED = "batch.canceled", "The batch was canceled before this request was processed."
    BATCH_MISSING_RESULT = (
        "batch.missing_result",
        "The batch ended and a person accepted that this line is missing.",
    )
    BATCH_UNREADABLE_LINE = "batch.unreadable_line", "The result line could not be read."
    BATCH_UNRECOVERABLE = "batch.unrecoverable", "The results can no longer be downloaded (29 days)."
    RUN_CANCELED = "run.canceled", "The run was canceled before this row was sent."
    OUTPUT_TRUNCATED = "output.truncated", "The answer was cut off at the token limit or the context window."
    OUTPUT_REFUSED = "output.refused", "The model refused to answer."
    OUTPUT_EMPTY = "output.empty", "The answer has no text."
    OUTPUT_UNPARSEABLE = "output.unparseable", "The answer is not exactly one JSON object."
    OUTPUT_SCHEMA = (
        "output.schema",
        "The answer breaks the contract's schema; detail: each place and violation.",
    )
    OUTPUT_RULE = "output.rule", "The answer breaks a rule of the contract, or the rule did not finish."
    OUTPUT_UNEXPECTED = "output.unexpected", "A stop reason, content block or result type that is not known."
    OUTPUT_SPARSE = "output.sparse", "The answer says that the record is too sparse; a person decides."
    HUMAN_UNANSWERABLE = "human.unanswerable", "A person found that nobody can know."
    HUMAN_REJECTED = "human.rejected", "A person rejected the record."
    CATALOG_MISSING_KEY = "catalog.missing_key", "The catalog has no row with this key."
    CATALOG_STALE = "catalog.stale", "The catalog row changed after the record was read."

    @property
    def family(self) -> str:
        """Give the part before the dot: input, api, batch, run, output, human, catalog."""
        return self._value_.partition(".")[0]

    def matches(self, glob: str) -> bool:
        """Tell whether this code matches a glob such as ``output.*``."""
        return fnmatchcase(self._value_, glob)

    def __str__(self) -> str:
        """Give the code itself."""
        return self._value_
