"""The contract: what a valid answer is, fixed before any prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar, cast, overload

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from batchkit import schema as shapes
from batchkit.errors import ContractError, UsageError
from batchkit.model import Usage
from batchkit.parsing import BLANK, NotOne, check_exact, find_object
from batchkit.reasons import Reason
from batchkit.rules import Fields, Rule, as_rule
from batchkit.verdict import Verdict, code_failure

T = TypeVar("T")

MAX_VIOLATIONS = 10
"""Violations that a detail lists; a last entry counts the rest."""

_CLIP = 200

# The positional form, past the generated __new__: this runs for every line.
_new: Final[Any] = tuple.__new__


class Contract(Generic[T]):
    """What a valid answer is: a model's exact shape, and rules on top of it.

    The shape is taken at its word: no field beyond the model's, no number as text, no key twice. The schema that
    the model is sent admits no more either. Coercions that are wanted go into the model, as validators that run
    before.

    Args:
        model: A pydantic model, or anything else ``TypeAdapter`` takes whose JSON is an object.
        rules: Functions of the output, or of the output and the record, in the order in which they are asked.
        sparse: Tells that a model's answer says "too little is known"; such a row goes to a person.
        sparse_input: Tells that a record says too little to be sent at all.
        lenient: Take the one object out of a code fence or out of prose around it.

    Raises:
        ContractError: the model admits answers that structured outputs cannot, or a function has no identity.
    """

    @overload
    def __init__(
        self,
        model: type[T],
        *,
        rules: Iterable[Rule[T] | Callable[[T], bool | str] | Callable[[T, Fields], bool | str]] = (),
        sparse: Callable[[T], bool] | Rule[T] | None = None,
        sparse_input: Callable[[Fields], bool] | Rule[Fields] | None = None,
        lenient: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        model: TypeAdapter[T],
        *,
        rules: Iterable[Rule[T] | Callable[[T], bool | str] | Callable[[T, Fields], bool | str]] = (),
        sparse: Callable[[T], bool] | Rule[T] | None = None,
        sparse_input: Callable[[Fields], bool] | Rule[Fields] | None = None,
        lenient: bool = False,
    ) -> None: ...
    def __init__(
        self,
        model: Any,
        *,
        rules: Iterable[Any] = (),
        sparse: Callable[..., object] | None = None,
        sparse_input: Callable[..., object] | None = None,
        lenient: bool = False,
    ) -> None:
        try:
            self._adapter: TypeAdapter[T] = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
            self._schema: dict[str, Any] = self._adapter.json_schema()
        except PydanticUserError as error:
            raise ContractError(f"{_name(model)} cannot serve as a contract: {error}") from error
        shapes.check_closed(self._schema)
        self._fields = shapes.fields(self._schema)
        self._enums = shapes.enums(self._schema)
        self._check_names(model)
        self._rules = tuple(as_rule(rule) for rule in rules)
        names = [rule.name for rule in self._rules if not rule.source]
        if len(set(names)) != len(names):
            raise ContractError(
                f"two rules have one name: {sorted(n for n in names if names.count(n) > 1)[0]}"
            )
        self._sparse = as_rule(sparse, arguments=1) if sparse is not None else None
        self._sparse_input = as_rule(sparse_input, arguments=1) if sparse_input is not None else None
        self._shape_is_all = not self._rules and self._sparse is None
        self._lenient = lenient
        self._needs_row = any(rule.takes_row for rule in self._rules)
        # Past the adapter's own methods, which take five times as long: these run for every row.
        self._validate = self._adapter.validator.validate_json
        self._serialize = self._adapter.serializer.to_json
        # Counting colons proves a flat object free of repeated keys; what it cannot prove is looked at closely.
        self._always_exact = not shapes.is_flat(self._schema) or shapes.has_numbers(self._schema)
        self._count = _count_set(self._adapter)

    def _check_names(self, model: Any) -> None:
        dumped = shapes.fields(self._adapter.json_schema(mode="serialization"))
        if missing := [name for name in self.fields if name not in dumped]:
            raise ContractError(
                f"{_name(model)}: field {missing[0]!r} is read under one name and written under another; "
                "use alias= in place of validation_alias= and serialization_alias="
            )

    @property
    def schema(self) -> Mapping[str, Any]:
        """The model's own JSON Schema, as pydantic makes it."""
        return self._schema

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the answer's fields, in order."""
        return self._fields

    @property
    def enums(self) -> Mapping[str, tuple[Any, ...]]:
        """The allowed values of each field that has a closed list of them; None where null is allowed."""
        return self._enums

    @property
    def rules(self) -> tuple[Rule[T], ...]:
        """The rules, in the order in which they are asked."""
        return self._rules

    @property
    def lenient(self) -> bool:
        """Whether prose and fences around the object are taken."""
        return self._lenient

    @property
    def needs_row(self) -> bool:
        """Whether judging a model's answer needs the record's fields."""
        return self._needs_row

    @property
    def tells_sparse(self) -> bool:
        """Whether `sparse_row` has a function to ask."""
        return self._sparse_input is not None

    @property
    def row_fields(self) -> tuple[str, ...]:
        """The record's fields that rules and ``sparse_input`` declare to read, each once."""
        asked = (*self._rules, *([self._sparse_input] if self._sparse_input else []))
        return tuple(dict.fromkeys(name for rule in asked for name in rule.fields))

    @property
    def identity(self) -> dict[str, Any]:
        """What stands for the contract in a fingerprint: its schema, and its functions by name and version."""
        return {
            "schema": self._schema,
            "rules": [rule.identity for rule in self._rules],
            "sparse": self._sparse.identity if self._sparse else None,
            "sparse_input": self._sparse_input.identity if self._sparse_input else None,
            "lenient": self._lenient,
        }

    def __eq__(self, other: object) -> bool:
        """Two contracts are equal where their identities are."""
        return isinstance(other, Contract) and self.identity == other.identity

    def __hash__(self) -> int:
        """Hash the identity's text."""
        return hash(json.dumps(self.identity, sort_keys=True))

    def __repr__(self) -> str:
        """Name the model and count the rules."""
        return f"Contract({self._schema.get('title', '?')}, {len(self._rules)} rules)"

    def check(
        self,
        answer: str | bytes | Mapping[str, Any] | T,
        row: Fields | None = None,
        *,
        usage: Usage | None = None,
        model: str = "",
    ) -> Verdict[T]:
        """Judge one answer.

        Args:
            answer: Text or bytes is a model's answer, judged to the letter. A mapping or an instance of the model is
                a person's: numbers and dates may come as text, and it is never too sparse.
            row: The record's fields, for rules that take them.
            usage: Passed on to the verdict.
            model: Passed on to the verdict.

        Raises:
            UsageError: a rule takes the record and ``row`` is None.
        """
        if isinstance(answer, (str, bytes)):
            return self.judge_text(answer, row, usage, model)
        self._check_row(row)
        return self._judge_person(answer, row, usage, model)

    def _check_row(self, row: Fields | None) -> None:
        if self._needs_row and row is None:
            names = ", ".join(rule.name for rule in self._rules if rule.takes_row)
            raise UsageError(f"the record is needed to judge by {names}: check(answer, row)")

    def judge_text(
        self, answer: str | bytes, row: Fields | None, usage: Usage | None, model: str
    ) -> Verdict[T]:
        """Judge a model's answer: `check` without its choices, for every line of a batch."""
        if row is None and self._needs_row:
            self._check_row(row)
        try:
            text = (answer.encode() if isinstance(answer, str) else answer).strip(BLANK)
        except UnicodeEncodeError:
            raw = answer.encode("utf-8", "backslashreplace") if isinstance(answer, str) else answer
            return Verdict(Reason.OUTPUT_UNPARSEABLE, "text that is no Unicode", None, raw, usage, model)
        if not text:
            return Verdict(Reason.OUTPUT_EMPTY, "", None, b"", usage, model)
        try:
            output = self._validate(text, strict=True, extra="forbid")
        except Exception as error:
            return self._judge_unshaped(error, text, row, usage, model)
        wrong = self._inexact(output, text)
        if wrong is not None:
            return Verdict(Reason.OUTPUT_UNPARSEABLE, wrong, None, text, usage, model)
        if self._shape_is_all:
            valid: Verdict[T] = _new(Verdict, (None, "", output, text, usage, model))
            return valid
        return self._judge_meaning(output, text, row, usage, model)

    def accepts(self, answer: str) -> bytes | Verdict[T]:
        """Judge a model's answer by a contract whose rules need no record: the text to keep of it if it is valid.

        Of any other answer this gives what `judge_text` gives, without usage and model. Nobody is asked twice.
        """
        try:
            text = answer.encode().strip(BLANK) if self._shape_is_all else b""
        except UnicodeEncodeError:
            text = b""
        if not text:
            return self.judge_text(answer, None, None, "")
        try:
            output = self._validate(text, strict=True, extra="forbid")
        except Exception as error:
            return self._judge_unshaped(error, text, None, None, "")
        wrong = self._inexact(output, text)
        return text if wrong is None else Verdict(Reason.OUTPUT_UNPARSEABLE, wrong, None, text)

    def _inexact(self, output: T, text: bytes) -> str | None:
        """Say why a text of the right shape is not exactly one JSON value with every key once, None where it is."""
        named = getattr(output, "__pydantic_fields_set__", None)
        keys = len(named) if named is not None else self._count(output)
        if self._always_exact or text.count(b":") != keys:
            try:
                check_exact(text)
            except (NotOne, RecursionError) as error:
                return str(error)
        return None

    def _judge_unshaped(
        self, error: Exception, text: bytes, row: Fields | None, usage: Usage | None, model: str
    ) -> Verdict[T]:
        """Judge what validation refused, or failed over."""
        if not isinstance(error, ValidationError):
            # A validator of the user's model that raises what pydantic does not take for a violation.
            return Verdict(Reason.OUTPUT_RULE, code_failure("the model", error), None, text, usage, model)
        violations = error.errors(include_url=False, include_context=False, include_input=False)
        if violations[0]["type"] != "json_invalid" and text.startswith(b"{"):
            return Verdict(Reason.OUTPUT_SCHEMA, _detail(violations), None, text, usage, model)
        return self._judge_prose(text, row, usage, model)

    def _judge_prose(self, text: bytes, row: Fields | None, usage: Usage | None, model: str) -> Verdict[T]:
        """Judge what is no JSON object from its first to its last byte."""
        why = "not exactly one JSON object"
        if self._lenient:
            try:
                inner = find_object(text.decode("utf-8", "replace")).encode()
                if inner != text:
                    return self.judge_text(inner, row, usage, model)
            except NotOne as error:
                why = str(error)
        return Verdict(Reason.OUTPUT_UNPARSEABLE, why, None, text, usage, model)

    def _judge_meaning(
        self, output: T, text: bytes, row: Fields | None, usage: Usage | None, model: str
    ) -> Verdict[T]:
        if self._sparse is not None:
            try:
                if self._sparse.fn(output):
                    return Verdict(Reason.OUTPUT_SPARSE, self._sparse.title, output, text, usage, model)
            except Exception as error:
                why = code_failure(self._sparse.title, error)
                return Verdict(Reason.OUTPUT_RULE, why, output, text, usage, model)
        return self._judge_rules(output, text, row, usage, model)

    def _judge_rules(
        self, output: T, text: bytes, row: Fields | None, usage: Usage | None, model: str
    ) -> Verdict[T]:
        for rule in self._rules:
            wrong = rule.violation(output, row)
            if wrong is not None:
                return Verdict(Reason.OUTPUT_RULE, _clip(wrong), output, text, usage, model)
        return Verdict(None, "", output, text, usage, model)

    def _judge_person(
        self, answer: object, row: Fields | None, usage: Usage | None, model: str
    ) -> Verdict[T]:
        text = b""
        try:
            text = to_json(answer, by_alias=True, inf_nan_mode="constants", round_trip=True)
            if not text.startswith(b"{"):
                return Verdict(
                    Reason.OUTPUT_UNPARSEABLE, "not exactly one JSON object", None, text, usage, model
                )
            output = self._validate(text, extra="forbid")
            text = self._text(output)
            check_exact(text)
        except ValidationError as error:
            violations = error.errors(include_url=False, include_context=False, include_input=False)
            return Verdict(Reason.OUTPUT_SCHEMA, _detail(violations), None, text, usage, model)
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            return Verdict(Reason.OUTPUT_UNPARSEABLE, type(error).__name__, None, text, usage, model)
        except (NotOne, RecursionError) as error:
            return Verdict(Reason.OUTPUT_UNPARSEABLE, str(error), None, text, usage, model)
        except Exception as error:
            return Verdict(Reason.OUTPUT_RULE, code_failure("the model", error), None, text, usage, model)
        return self._judge_rules(output, text, row, usage, model)

    def load(self, text: bytes | str) -> T:
        """Read an accepted answer again; no rule is asked.

        Raises:
            pydantic.ValidationError: the text is no answer of this shape.
        """
        return cast("T", self._validate(text))

    def dump(self, output: T) -> dict[str, Any]:
        """Give an output as plain JSON values, by the names that answers use."""
        return cast("dict[str, Any]", from_json(self._text(output)))

    def _text(self, output: T) -> bytes:
        return self._serialize(output, by_alias=True, round_trip=True, warnings="none")

    def sparse_row(self, row: Fields) -> bool:
        """Tell whether a record says too little to be sent.

        Raises:
            UsageError: the user's function raised; nothing was sent yet.
        """
        if self._sparse_input is None:
            return False
        try:
            return bool(self._sparse_input.of_row(row))
        except UsageError as error:
            raise UsageError(f"sparse_input {self._sparse_input.title} {error}") from error
        except Exception as error:
            raise UsageError(
                f"sparse_input {self._sparse_input.title} raised {type(error).__name__}: {error}"
            ) from error


def _count_set(adapter: TypeAdapter[Any]) -> Callable[[Any], int]:
    """Give how to count the keys that an answer had; -1 where the type does not say."""

    def count(output: Any) -> int:
        named = getattr(output, "__pydantic_fields_set__", None)
        if named is not None:
            return len(named)
        return len(output) if isinstance(output, dict) else -1

    return count


def _detail(violations: Iterable[Mapping[str, Any]]) -> str:
    listed = [
        {"loc": _clip(".".join(map(str, v["loc"]))), "type": v["type"], "msg": _clip(v["msg"])}
        for v in violations
    ]
    rest = len(listed) - MAX_VIOLATIONS
    if rest > 0:
        listed[MAX_VIOLATIONS:] = [{"loc": "", "type": "more", "msg": f"{rest} more violations"}]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def _clip(text: str) -> str:
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def _name(model: object) -> str:
    return getattr(model, "__name__", None) or str(model)
