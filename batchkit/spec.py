"""The spec: contract, prompt, key, tiers and policy as one frozen value with a fingerprint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

import attrs
from typing_extensions import Self

from batchkit import schema as shapes
from batchkit.contract import Contract
from batchkit.errors import ContractError, MissingField, UsageError
from batchkit.fixes import meant
from batchkit.ids import Digest
from batchkit.policy import Policy
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.specdiff import SpecDiff
from batchkit.tier import Tier

T = TypeVar("T")

FORMAT: Final = 1
"""Version of the document's form."""

MAX_PREFIX: Final = 24
"""Characters of a prefix; the rest of a custom id's 64 is for the key and the nonce."""

_PREFIX = re.compile(r"[A-Za-z0-9_-]*")


def _names(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise UsageError(f"metadata is a list of field names, not one text: metadata=[{names!r}]")
    return tuple(dict.fromkeys(names))


def _tiers(tiers: Iterable[Tier]) -> tuple[Tier, ...]:
    if isinstance(tiers, Tier):
        raise UsageError("tiers is a list, cheap first: tiers=[Tier(...)]")
    made = tuple(tiers)
    if not made or not all(isinstance(tier, Tier) for tier in made):
        raise UsageError("a spec has one tier at least: tiers=[Tier(model, max_tokens=...)]")
    return made


def _check_prefix(instance: object, attribute: attrs.Attribute[str], prefix: str) -> None:
    if type(prefix) is not str or not _PREFIX.fullmatch(prefix) or len(prefix) > MAX_PREFIX:
        raise UsageError(f"a prefix is at most {MAX_PREFIX} letters, digits, '_' and '-', not {prefix!r}")


def _check_key(instance: object, attribute: attrs.Attribute[str], key: str) -> None:
    if type(key) is not str or not key:
        raise UsageError(f"key is the name of the field that identifies a record, not {key!r}")


def _kind(kind: type[Any]) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise UsageError(f"a spec's {attribute.name} is a {kind.__name__}, not {type(value).__name__}")

    return check


class Rendering:
    """What rendering needs of a spec, whether it comes from code or from a store."""

    # Given by the attrs classes below; a slot-less mixin must not declare them as fields.
    prompt: Prompt
    key: str
    tiers: tuple[Tier, ...]
    policy: Policy
    prefix: str
    metadata: tuple[str, ...]

    @property
    def identity(self) -> Mapping[str, Any]:
        """What stands for the contract."""
        raise NotImplementedError

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of a valid answer, as pydantic made it."""
        schema: Mapping[str, Any] = self.identity["schema"]
        return schema

    @cached_property
    def fingerprint(self) -> Digest:
        """SHA-256 over :meth:`body`."""
        return Digest(sha256(self.body()).hexdigest())

    @property
    def row_fields(self) -> tuple[str, ...]:
        """The record's fields that rules and ``sparse_input`` declare to read."""
        functions = [*self.identity["rules"], self.identity["sparse_input"] or {}]
        return tuple(dict.fromkeys(name for function in functions for name in function.get("fields", ())))

    @property
    def used_fields(self) -> tuple[str, ...]:
        """Every field that is frozen per row: of the prompts, the rules and the metadata. The key is apart."""
        prompts = [self.prompt_of(tier).fields for tier in range(len(self.tiers))]
        return tuple(
            dict.fromkeys(name for names in (*prompts, self.row_fields, self.metadata) for name in names)
        )

    @property
    def judge_identity(self) -> Mapping[str, Any]:
        """What code must have to judge a run's answers: the schema, and its functions by name and version."""
        return self.identity

    def prompt_of(self, tier: int) -> Prompt:
        """Give the prompt of one tier, counted from 0."""
        return self.tiers[tier].prompt or self.prompt

    def static(self, tier: int = 0, *, show_schema: bool = False) -> str:
        """Give the static text of one tier; see :meth:`batchkit.Prompt.static`."""
        return self.prompt_of(tier).static(self, show_schema=show_schema)

    def document(self) -> dict[str, Any]:
        """Give the whole spec as JSON-able values; functions stand in it by name and version."""
        return {
            "format": FORMAT,
            "contract": dict(self.identity),
            "prompt": self.prompt.document(),
            "key": self.key,
            "tiers": [tier.document() for tier in self.tiers],
            "policy": self.policy.document(),
            "prefix": self.prefix,
            "metadata": list(self.metadata),
        }

    def body(self) -> bytes:
        """Give the JSON of :meth:`document`: what is stored, and what the fingerprint is made of.

        Its order counts and is kept: a model writes its fields in the schema's order, and reads an example as it
        is written.
        """
        return canonical(self.document(), sort_keys=False)

    def diff(self, other: Rendering) -> SpecDiff:
        """Tell how this spec differs from an earlier one; reads from ``other`` to this."""
        return SpecDiff.between(other.document(), self.document())

    def check_fields(self, available: Iterable[str]) -> None:
        """Make sure that the rows have what the spec uses.

        Raises:
            MissingField: one is missing; the message names it, what there is, and the nearest name.
        """
        have = sorted(set(available))
        uses = [
            (name, f"the prompt uses {{{name}}}", "{%s}")
            for n in range(len(self.tiers))
            for name in self.prompt_of(n).fields
        ]
        uses.append((self.key, f"the key is {self.key!r}", "%r"))
        uses += [(name, f"a rule reads {name!r}", "%r") for name in self.row_fields]
        uses += [(name, f"metadata names {name!r}", "%r") for name in self.metadata]
        for name, use, form in uses:
            if name not in have:
                raise MissingField(
                    f"{use}; the rows have {', '.join(have) or 'no fields'}.{meant(name, have, form)}"
                )


def canonical(document: object, *, sort_keys: bool = True) -> bytes:
    """Give JSON without blanks, in UTF-8: the same bytes for the same value.

    Raises:
        UsageError: it holds a lone surrogate, which no file or database keeps.
    """
    try:
        text = json.dumps(
            document, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except (UnicodeEncodeError, ValueError) as error:
        raise UsageError(f"the spec holds what JSON cannot: {type(error).__name__}") from error


@attrs.frozen(slots=False, eq=False, repr=False)
class Spec(Rendering, Generic[T]):
    """What a run does, as one value: what is sent, to whom, and how the answers are judged.

    Attributes:
        contract: What a valid answer is.
        prompt: What is sent.
        key: The field that identifies a record.
        tiers: Models, cheap first.
        policy: What happens to rows that do not succeed.
        prefix: Begins every custom id; at most 24 characters of ``A-Za-z0-9_-``.
        metadata: Fields that are stored and shown to people, never sent.

    Raises:
        UsageError: a part is of the wrong kind, or an example lacks a field that its prompt uses.
        ContractError: an example's output breaks the contract; it is named.
    """

    contract: Contract[T] = attrs.field(validator=_kind(Contract))
    prompt: Prompt = attrs.field(validator=_kind(Prompt))
    key: str = attrs.field(kw_only=True, validator=_check_key)
    tiers: tuple[Tier, ...] = attrs.field(kw_only=True, converter=_tiers)
    policy: Policy = attrs.field(factory=Policy.default, kw_only=True, validator=_kind(Policy))
    prefix: str = attrs.field(default="", kw_only=True, validator=_check_prefix)
    metadata: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)

    def __attrs_post_init__(self) -> None:
        prompts = dict.fromkeys([self.prompt, *(tier.prompt for tier in self.tiers if tier.prompt)])
        for prompt in prompts:
            _check_examples(self.contract, prompt)
        canonical(self.document())

    @property
    def identity(self) -> Mapping[str, Any]:
        """What stands for the contract."""
        return self.contract.identity

    def evolve(self, **changes: Any) -> Self:
        """Give a copy with some attributes changed."""
        return attrs.evolve(self, **changes)

    def stored(self) -> StoredSpec:
        """Give the spec as a store knows it: it renders, and cannot judge."""
        return StoredSpec.load(self.body())

    def __eq__(self, other: object) -> bool:
        """Two specs are equal where their fingerprints are."""
        return isinstance(other, Spec) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        """Hash the fingerprint."""
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        """Name the fingerprint and the models."""
        return f"Spec({self.fingerprint[:6]}, {', '.join(tier.model for tier in self.tiers)})"


@attrs.frozen(kw_only=True, slots=False)
class StoredSpec(Rendering):
    """A spec read back from its body: what rendering, routing and prices need, without the code that judges."""

    contract: Mapping[str, Any] = attrs.field(hash=False)
    """What stands for the contract: its schema, and its functions by name and version."""
    prompt: Prompt
    key: str
    tiers: tuple[Tier, ...]
    policy: Policy
    prefix: str
    metadata: tuple[str, ...]

    @classmethod
    def load(cls, body: bytes | str) -> StoredSpec:
        """Read the bytes that :meth:`Rendering.body` gave.

        Raises:
            UsageError: they are of a newer form, or no spec.
        """
        document = json.loads(body)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise UsageError("this spec was stored by another version of batchkit; upgrade, or run it there")
        return cls(
            contract=document["contract"],
            prompt=Prompt.load(document["prompt"]),
            key=document["key"],
            tiers=tuple(map(Tier.load, document["tiers"])),
            policy=Policy.load(document["policy"]),
            prefix=document["prefix"],
            metadata=tuple(document["metadata"]),
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """What stands for the contract."""
        return self.contract

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the answer's fields, in order."""
        return shapes.fields(self.schema)

    @property
    def enums(self) -> Mapping[str, tuple[Any, ...]]:
        """The allowed values of each field that has a closed list of them."""
        return shapes.enums(self.schema)


def _check_examples(contract: Contract[Any], prompt: Prompt) -> None:
    for number, example in enumerate(prompt.examples, 1):
        name = f"example {number}" + (f" ({example.key})" if example.key else "")
        for field in prompt.fields:
            if field not in example.row:
                raise UsageError(
                    f"{name} has no {field!r}, which the prompt uses; its row has {', '.join(example.row)}"
                )
        verdict = contract.check(canonical(example.output), example.row)
        if not verdict.valid and verdict.reason is not Reason.OUTPUT_SPARSE:
            raise ContractError(f"{name} breaks the contract: {verdict.reason}, {verdict.detail}")
