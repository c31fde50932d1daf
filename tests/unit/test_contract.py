"""What a contract accepts, refuses and says."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, computed_field, field_validator
from typing_extensions import TypedDict

from batchkit.contract import MAX_VIOLATIONS, Contract
from batchkit.errors import ContractError, UsageError
from batchkit.model import Usage
from batchkit.reasons import Reason
from batchkit.rules import Fields, Rule, rule


class Attributes(BaseModel):
    category: Literal["Audio", "Cables", "Chargers"] | None
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


GOOD = '{"category":"Audio","features":["20 W","two ports"],"summary":"A speaker."}'


def answer(**changes: Any) -> str:
    return json.dumps({**json.loads(GOOD), **changes})


@rule(version=1)
def one_sentence(out: Attributes) -> bool:
    return out.summary.count(".") <= 1


@pytest.fixture
def contract() -> Contract[Attributes]:
    return Contract(Attributes, rules=[one_sentence], sparse=lambda out: out.category is None)


def locs(detail: str) -> dict[str, str]:
    return {entry["loc"]: entry["type"] for entry in json.loads(detail)}


class TestShape:
    def test_a_right_answer_is_valid(self, contract: Contract[Attributes]) -> None:
        """A right answer gives the typed output, its own text, and what was passed on about its cost."""
        verdict = contract.check(f" \n{GOOD}\t", usage=Usage(input=3), model="m")
        assert verdict.valid
        assert verdict.output == Attributes(
            category="Audio", features=["20 W", "two ports"], summary="A speaker."
        )
        assert verdict.text == GOOD.encode()
        assert (verdict.usage, verdict.model, verdict.detail) == (Usage(input=3), "m", "")

    @pytest.mark.parametrize(
        ("text", "loc", "kind"),
        [
            (answer(category="audio"), "category", "literal_error"),
            (answer(features=["x"] * 6), "features", "too_long"),
            (answer(features=["ok", "x" * 61]), "features.1", "string_too_long"),
            (answer(features=["ok", 5]), "features.1", "string_type"),
            (answer(summary="x" * 121), "summary", "string_too_long"),
            (answer(brand="ACME"), "brand", "extra_forbidden"),
            ('{"category":"Audio","features":[]}', "summary", "missing"),
            ("{}", "category", "missing"),
        ],
    )
    def test_every_violation_is_named(
        self, contract: Contract[Attributes], text: str, loc: str, kind: str
    ) -> None:
        """An answer off the schema says where and how, and keeps its text."""
        verdict = contract.check(text)
        assert verdict.reason is Reason.OUTPUT_SCHEMA
        assert locs(verdict.detail)[loc] == kind
        assert verdict.text == text.encode()
        assert verdict.output is None

    def test_all_violations_stand_together(self, contract: Contract[Attributes]) -> None:
        """Several violations of one answer are all in the detail."""
        verdict = contract.check(answer(category="x", summary="y" * 200))
        assert locs(verdict.detail) == {"category": "literal_error", "summary": "string_too_long"}

    def test_many_violations_are_counted(self, contract: Contract[Attributes]) -> None:
        """Beyond ten violations the detail counts the rest."""
        verdict = contract.check(answer(**{f"extra{n}": 1 for n in range(MAX_VIOLATIONS + 4)}))
        entries = json.loads(verdict.detail)
        assert len(entries) == MAX_VIOLATIONS + 1
        assert entries[-1] == {"loc": "", "type": "more", "msg": "4 more violations"}

    def test_the_detail_holds_no_answer_text(self, contract: Contract[Attributes]) -> None:
        """A detail names places and kinds, not what stood there."""
        assert "secret" not in contract.check(answer(category="secret", summary="secret" * 40)).detail

    @pytest.mark.parametrize(
        "text",
        [
            GOOD + GOOD,
            f"```json\n{GOOD}\n```",
            f"Here it is: {GOOD}",
            f"{GOOD} Done.",
            "[]",
            f"[{GOOD}]",
            "null",
            '"text"',
            "5",
            GOOD[:-1] + ",}",
            GOOD.replace('"', "'"),
            GOOD[:-1],
            "\ufeff" + GOOD,
            "\u00a0" + GOOD,
            "\v" + GOOD,
            '{"a":' * 100_000,
            "[" * 100_000,
            '{"category":' + "9" * 5_000 + "}",
            '{"category":"\\ud800"}',
            "\ud800",
        ],
    )
    def test_anything_but_one_object_is_unparseable(self, contract: Contract[Attributes], text: str) -> None:
        """Fences, prose, two objects, other JSON, broken JSON, bombs and lone surrogates are not one JSON object."""
        assert contract.check(text).reason is Reason.OUTPUT_UNPARSEABLE

    @pytest.mark.parametrize("text", ["", " \n\t ", b""])
    def test_nothing_is_empty(self, contract: Contract[Attributes], text: str | bytes) -> None:
        """An answer without a character is empty, not unparseable."""
        assert contract.check(text).reason is Reason.OUTPUT_EMPTY

    def test_bytes_that_are_no_text(self, contract: Contract[Attributes]) -> None:
        """Bytes that are no UTF-8 are unparseable."""
        assert contract.check(b'{"category":"\xff"}').reason is Reason.OUTPUT_UNPARSEABLE

    @pytest.mark.parametrize(
        "text",
        [GOOD[:-1] + ',"summary":"again"}', GOOD.replace("20 W", "a: b")[:-1] + ',"category":"Cables"}'],
    )
    def test_a_key_stands_once(self, contract: Contract[Attributes], text: str) -> None:
        """An answer that says one thing twice says nothing, whichever came last."""
        verdict = contract.check(text)
        assert (verdict.reason, verdict.detail) == (
            Reason.OUTPUT_UNPARSEABLE,
            "a key stands twice in one object",
        )

    def test_colons_in_a_value_are_harmless(self, contract: Contract[Attributes]) -> None:
        """A valid answer whose values hold colons is valid."""
        assert contract.check(answer(summary="ratio 1:2: good")).valid


class Inner(BaseModel):
    size: int
    unit: Literal["cm", "in"] = "cm"


class Outer(BaseModel):
    inner: Inner
    weight: float = 0.0


class TestTypes:
    def test_nested_objects_are_exact(self) -> None:
        """Unknown, repeated and missing keys are found inside nested objects too."""
        contract = Contract(Outer)
        assert contract.check('{"inner":{"size":1}}').valid
        assert locs(contract.check('{"inner":{"size":1,"x":2}}').detail) == {"inner.x": "extra_forbidden"}
        assert contract.check('{"inner":{"size":1,"size":2}}').reason is Reason.OUTPUT_UNPARSEABLE

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_numbers_are_finite(self, number: str) -> None:
        """What JSON has no number for is refused even where a float is expected."""
        verdict = Contract(Outer).check(f'{{"inner":{{"size":1}},"weight":{number}}}')
        assert not verdict.valid
        assert verdict.reason in {Reason.OUTPUT_UNPARSEABLE, Reason.OUTPUT_SCHEMA}

    def test_numbers_of_a_flat_answer_are_finite(self) -> None:
        """A number beyond a float is refused in an answer without inner objects too."""

        class Scored(BaseModel):
            score: float

        assert Contract(Scored).check('{"score":1.5}').valid
        assert Contract(Scored).check('{"score":1e999}').reason is Reason.OUTPUT_UNPARSEABLE
        assert Contract(Scored).check('{"score":NaN}').reason is Reason.OUTPUT_UNPARSEABLE

    def test_a_number_is_not_text(self) -> None:
        """A model's answer is taken at its word: "5" is no number. A person's is read kindly."""
        contract = Contract(Outer)
        assert locs(contract.check('{"inner":{"size":"5"}}').detail) == {"inner.size": "int_type"}
        kind = contract.check({"inner": {"size": "5"}})
        assert kind.valid
        assert kind.text == b'{"inner":{"size":5,"unit":"cm"},"weight":0.0}'

    def test_extra_allowed_by_the_model_is_still_refused(self) -> None:
        """A model that silently drops unknown keys is exact here all the same."""

        class Loose(BaseModel):
            model_config = ConfigDict(extra="ignore")
            a: int

        assert Contract(Loose).check('{"a":1,"b":2}').reason is Reason.OUTPUT_SCHEMA

    def test_a_typed_dict_and_a_dataclass_serve(self) -> None:
        """Whatever a TypeAdapter takes, and whose JSON is an object, makes a contract."""

        class Typed(TypedDict):
            a: int

        @dataclasses.dataclass
        class Plain:
            a: int

        for contract in (Contract(Typed), Contract(TypeAdapter(Typed))):
            assert contract.check('{"a":1}').output == {"a": 1}
            assert contract.check('{"a":1,"b":2}').reason is Reason.OUTPUT_SCHEMA
            assert contract.check('{"a":1,"a":2}').reason is Reason.OUTPUT_UNPARSEABLE
        plain = Contract(Plain)
        assert plain.check('{"a":1}').output == Plain(1)
        assert plain.check('{"a":1,"b":2}').reason is Reason.OUTPUT_SCHEMA
        assert plain.check('{"a":1,"a":2}').reason is Reason.OUTPUT_UNPARSEABLE
        assert plain.check(Plain(3)).text == b'{"a":3}'

    def test_dates_and_enums_come_as_json_has_them(self) -> None:
        """Types that JSON has only text for are read from text, and written back so."""

        class Colour(Enum):
            RED = "red"
            BLUE = "blue"

        class Dated(BaseModel):
            day: date
            colour: Colour

        contract = Contract(Dated)
        verdict = contract.check('{"day":"2026-11-22","colour":"red"}')
        assert verdict.output == Dated(day=date(2026, 11, 22), colour=Colour.RED)
        assert contract.dump(verdict.output) == {"day": "2026-11-22", "colour": "red"}
        assert contract.enums == {"colour": ("red", "blue")}

    def test_a_validator_that_fails_badly_is_a_reason(self) -> None:
        """A validator of the user's model that raises anything quarantines the row, by the error's class only."""

        class Broken(BaseModel):
            a: int

            @field_validator("a")
            @classmethod
            def _check(cls, value: int) -> int:
                raise KeyError("secret")

        verdict = Contract(Broken).check('{"a":1}')
        assert (verdict.reason, verdict.detail) == (
            Reason.OUTPUT_RULE,
            "code failed: the model raised KeyError",
        )

    def test_what_was_accepted_reads_back(self, contract: Contract[Attributes]) -> None:
        """The text of an accepted answer loads to the same output, and dumps to the same values."""
        verdict = contract.check(GOOD)
        assert verdict.output is not None
        assert contract.load(verdict.text) == verdict.output
        assert contract.dump(verdict.output) == json.loads(GOOD)

    def test_aliases_and_computed_fields_round_trip(self) -> None:
        """Outputs are named as answers name them; computed fields are no part of an answer."""

        class Named(BaseModel):
            kind: str = Field(alias="class")

            @computed_field  # type: ignore[prop-decorator]
            @property
            def loud(self) -> str:
                return self.kind.upper()

        contract = Contract(Named)
        verdict = contract.check('{"class":"a"}')
        assert verdict.output is not None
        assert contract.dump(verdict.output) == {"class": "a"}
        assert contract.check(verdict.output).text == b'{"class":"a"}'
        assert contract.fields == ("class",)


class TestRefusedContracts:
    @pytest.mark.parametrize("kind", [list[int], int, str, dict[str, int]])
    def test_an_answer_is_an_object_of_named_fields(self, kind: Any) -> None:
        """A list, a number or an open mapping is no contract."""
        with pytest.raises(ContractError):
            Contract(kind)

    def test_open_mappings_are_refused_by_name(self) -> None:
        """A field that takes free keys is named, since structured outputs would admit none."""

        class Open(BaseModel):
            ok: int
            sizes: list[dict[str, int]]

        with pytest.raises(ContractError, match=r"field 'sizes\[\]' is an open mapping"):
            Contract(Open)

    def test_mappings_with_a_pattern_are_open_too(self) -> None:
        """Keys that are only told by a pattern are free keys."""

        class Patterned(BaseModel):
            sizes: dict[Annotated[str, Field(pattern="^a")], int]

        with pytest.raises(ContractError, match="field 'sizes' is an open mapping"):
            Contract(Patterned)

    def test_models_that_keep_extras_are_refused(self) -> None:
        """A model that keeps unknown keys is an open mapping, also inside another."""

        class Keeps(BaseModel):
            model_config = ConfigDict(extra="allow")
            a: int

        class Holds(BaseModel):
            inner: Keeps | None

        with pytest.raises(ContractError, match="the contract is an open mapping"):
            Contract(Keeps)
        with pytest.raises(ContractError, match="field 'inner' is an open mapping"):
            Contract(Holds)

    def test_untyped_fields_are_refused_by_name(self) -> None:
        """A field that takes anything is named."""

        class Untyped(BaseModel):
            note: Any

        with pytest.raises(ContractError, match="field 'note' accepts anything"):
            Contract(Untyped)

    def test_recursion_is_refused_by_name(self) -> None:
        """A model that contains itself is named by the field that does so."""
        with pytest.raises(ContractError, match=r"field 'children\[\]' contains itself"):
            Contract(Tree)

    def test_an_empty_model_is_refused(self) -> None:
        """An object without fields could hold no answer."""

        class Nothing(BaseModel):
            pass

        with pytest.raises(ContractError, match="without fields"):
            Contract(Nothing)

    def test_two_names_for_one_field_are_refused(self) -> None:
        """A field that is read under one name and written under another could not be read back."""

        class Two(BaseModel):
            a: int = Field(validation_alias="b")

        with pytest.raises(ContractError, match="read under one name"):
            Contract(Two)

    def test_what_pydantic_cannot_take_is_refused(self) -> None:
        """A type that pydantic does not know is refused as a contract."""
        with pytest.raises(ContractError, match="cannot serve"):
            Contract(Contract)

    def test_a_root_model_of_an_object_serves(self) -> None:
        """A root model is followed to the object it holds."""
        contract = Contract(RootModel[Inner])
        assert contract.fields == ("size", "unit")
        assert contract.check('{"size":1}').valid


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class TestSchema:
    def test_enums_name_every_closed_list(self) -> None:
        """Allowed values are found through null, enums and single values; open fields have none."""

        class Many(BaseModel):
            a: Literal["x", "y"] | None
            b: Literal[1]
            c: str | Literal["z"]
            d: bool
            e: list[Literal["p", "q"]]

        assert Contract(Many).enums == {"a": ("x", "y", None), "b": (1,)}

    def test_fields_keep_their_order(self, contract: Contract[Attributes]) -> None:
        """Fields stand in the order of the model, which is the order of the answer."""
        assert contract.fields == ("category", "features", "summary")

    def test_it_names_itself(self, contract: Contract[Attributes]) -> None:
        """A contract's text shows its model and how many rules stand on it."""
        assert repr(contract) == "Contract(Attributes, 1 rules)"
        assert contract.schema["title"] == "Attributes"
        assert (contract.lenient, contract.needs_row, contract.row_fields) == (False, False, ())


class TestLenient:
    @pytest.mark.parametrize(
        "text",
        [f"```json\n{GOOD}\n```", f"Here: {GOOD} I hope it helps.", f"With {{braces}}: {GOOD}", GOOD],
    )
    def test_one_object_is_found(self, text: str) -> None:
        """A lenient contract takes the one object out of fences and prose, and keeps only its text."""
        verdict = Contract(Attributes, lenient=True).check(text)
        assert verdict.valid
        assert verdict.text == GOOD.encode()

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (f"{GOOD} or {GOOD}", "more than one JSON object"),
            (f"{{}} and {GOOD}", "more than one JSON object"),
            ("nothing here {x}", "no JSON object"),
            ('{"category":"\\ud800"}', "not exactly one JSON object"),
            ('{"a": {"category": ', "a JSON object that is broken"),
            (f'{{"broken": {GOOD}, oops', "a JSON object that is broken"),
            ('text {"a":' * 30_000, "too long to look for an object in"),
            ('text {"a":' + '{"a":' * 20_000, "a JSON object that is broken"),
        ],
    )
    def test_more_or_less_than_one_is_refused(self, text: str, why: str) -> None:
        """Two objects, none, a broken one or a bomb stay unparseable; no inner piece is taken for the whole."""
        verdict = Contract(Attributes, lenient=True).check(text)
        assert (verdict.reason, verdict.detail) == (Reason.OUTPUT_UNPARSEABLE, why)


class TestRules:
    def test_a_broken_rule_names_itself(self, contract: Contract[Attributes]) -> None:
        """An answer that breaks a rule carries the rule's name, and keeps its output for people to read."""
        verdict = contract.check(answer(summary="One. Two."))
        assert (verdict.reason, verdict.detail) == (Reason.OUTPUT_RULE, "one_sentence")
        assert verdict.output is not None

    def test_rules_are_asked_in_order(self) -> None:
        """The first broken rule is the one reported, with its message."""

        def first(out: Attributes) -> bool | str:
            return "no good"

        def second(out: Attributes) -> bool:
            raise AssertionError("asked although the first was broken")

        assert Contract(Attributes, rules=[first, second]).check(GOOD).detail == "first: no good"

    def test_a_rule_that_raises_is_a_violation(self) -> None:
        """A rule that raises quarantines the row with its name and the error's class, never its text."""

        def bad(out: Attributes) -> bool:
            raise ValueError("secret text of the record")

        verdict = Contract(Attributes, rules=[bad]).check(GOOD)
        assert (verdict.reason, verdict.detail) == (Reason.OUTPUT_RULE, "code failed: bad raised ValueError")

    @pytest.mark.parametrize("value", [None, 1, 0, [], object()])
    def test_only_bools_and_text_are_answers(self, value: Any) -> None:
        """A rule that forgot to return says so instead of passing."""

        def forgot(out: Attributes) -> Any:
            return value

        verdict = Contract(Attributes, rules=[forgot]).check(GOOD)
        assert verdict.reason is Reason.OUTPUT_RULE
        assert (
            verdict.detail == f"code failed: forgot gave {type(value).__name__}, not True, False or a message"
        )

    def test_a_rule_reads_the_record(self) -> None:
        """A rule of two arguments sees the record's fields."""

        @rule(version=1, fields=["title"])
        def other_than_title(out: Attributes, row: Fields) -> bool:
            return out.summary != row["title"]

        contract = Contract(Attributes, rules=[other_than_title])
        assert contract.needs_row
        assert contract.row_fields == ("title",)
        assert contract.check(GOOD, {"title": "x"}).valid
        assert contract.check(GOOD, {"title": "A speaker."}).reason is Reason.OUTPUT_RULE
        with pytest.raises(UsageError, match="other_than_title"):
            contract.check(GOOD)

    def test_a_field_that_was_not_frozen_is_named(self) -> None:
        """A rule that reads a field the run does not hold says which, and how to have it."""

        def reads(out: Attributes, row: Fields) -> bool:
            return bool(row["brand"])

        verdict = Contract(Attributes, rules=[reads]).check(GOOD, {"title": "x"})
        assert verdict.reason is Reason.OUTPUT_RULE
        assert "'brand', which is not frozen" in verdict.detail

    def test_names_and_versions_are_the_identity(self) -> None:
        """Rules stand in the identity by name and version; a lambda by its text, whatever its layout."""
        one = Contract(Attributes, rules=[one_sentence], sparse=lambda out: out.category is None)
        # fmt: off
        two = Contract(
            Attributes,
            rules=[one_sentence],
            sparse=lambda out: out.category
                is None
                # the comment is no part of it
        )
        # fmt: on
        assert one.identity["rules"] == [{"name": "one_sentence", "version": 1}]
        assert one.identity["sparse"]["source"] == "lambda out: out.category is None"
        assert one == two
        assert hash(one) == hash(two)
        assert one != Contract(Attributes, rules=[one_sentence], sparse=lambda out: out.category == "Audio")

    def test_lambdas_of_one_line_are_told_apart(self) -> None:
        """Several lambdas on one line keep their own texts."""
        contract = Contract(Attributes, sparse=lambda out: out.category is None, sparse_input=lambda row: not row["title"])  # fmt: skip
        assert contract.identity["sparse"]["source"] == "lambda out: out.category is None"
        assert contract.identity["sparse_input"]["source"] == 'lambda row: not row["title"]'

    def test_lambdas_with_commas_and_closures(self) -> None:
        """A lambda's text ends where its expression ends, whatever it calls or captures."""
        limit = 3
        rules: list[Any] = [
            lambda out, row: out.summary.startswith(("A", "B")) or len(row) > limit,
            one_sentence,
        ]
        contract = Contract(Attributes, rules=rules)
        assert contract.identity["rules"][0]["source"] == (
            'lambda out, row: out.summary.startswith(("A", "B")) or len(row) > limit'
        )

    def test_lambdas_that_loop_inside(self) -> None:
        """A lambda with loops and lambdas of its own keeps its text."""
        rules: list[Any] = [
            lambda out: all(x.strip() for x in sorted(out.features, key=lambda x: x.lower())),
            one_sentence,
        ]
        contract = Contract(Attributes, rules=rules)
        assert contract.identity["rules"][0]["source"] == (
            "lambda out: all(x.strip() for x in sorted(out.features, key=lambda x: x.lower()))"
        )
        assert contract.check(GOOD).valid

    def test_a_rule_is_still_the_function(self) -> None:
        """A decorated function can be called as before, with the record and without."""

        @rule(version=4)
        def told(out: Attributes, row: Fields) -> bool:
            return row["lang"] == "en"

        good = Attributes(category=None, features=[], summary="")
        assert told(good, {"lang": "en"}) is True
        assert one_sentence(good) is True
        assert Contract(Attributes, rules=[told, one_sentence]).rules == (told, one_sentence)

    def test_what_is_no_function_is_refused(self) -> None:
        """Only what can be called, and tells what with, is a rule."""
        wrong: Any = "text"
        mute: Any = type("Mute", (), {"__call__": max, "__signature__": 5, "__name__": "mute"})()
        with pytest.raises(ContractError, match="is a function, not str"):
            Contract(Attributes, rules=[wrong])
        with pytest.raises(ContractError, match="mute does not tell"):
            Contract(Attributes, rules=[mute])
        with pytest.raises(ContractError, match="takes two arguments; here it is called with one"):
            Contract(Attributes, sparse=Rule(name="r", fn=max, takes_row=True))

    def test_a_lambda_without_source_is_refused(self) -> None:
        """A lambda that no file holds has no identity."""
        made: Any = eval("lambda out: True")
        with pytest.raises(ContractError, match="named function"):
            Contract(Attributes, rules=[made])

    def test_lambdas_that_look_alike(self) -> None:
        """Two lambdas on one line that differ in an operator keep their own texts; two that are the same share one."""
        rules: list[Any] = [lambda out: out.summary == "a", lambda out: out.summary != "a"]  # fmt: skip
        told = [rule["source"] for rule in Contract(Attributes, rules=rules).identity["rules"]]
        assert told == ['lambda out: out.summary == "a"', 'lambda out: out.summary != "a"']
        rules = [lambda out: out.summary == "a", lambda out: out.summary == "b"]  # fmt: skip
        told = [rule["source"] for rule in Contract(Attributes, rules=rules).identity["rules"]]
        assert told == ['lambda out: out.summary == "a"', 'lambda out: out.summary == "b"']

    def test_lambdas_over_several_lines(self) -> None:
        """A lambda's text goes on over line ends inside brackets, and ends with its line outside of them."""
        alone = lambda out: out.summary != "a"  # noqa: E731
        limit = 5
        # fmt: off
        rules: list[Any] = [
            alone,
            lambda out: (
                len(out.summary)
                > limit
            ) or out.category == "Cables",
            lambda out: out.summary
                != "b",
        ]
        # fmt: on
        told = [rule["source"] for rule in Contract(Attributes, rules=rules).identity["rules"]]
        assert told == [
            'lambda out: out.summary != "a"',
            'lambda out: ( len(out.summary) > limit ) or out.category == "Cables"',
            'lambda out: out.summary != "b"',
        ]

    def test_a_text_that_moved_is_refused(self) -> None:
        """Where the file no longer says what was compiled, the lambda has no text that could stand for it."""
        made: Any = lambda out: out.summary  # noqa: E731
        other: Any = lambda out: out.category  # noqa: E731
        made.__code__ = made.__code__.replace(co_firstlineno=other.__code__.co_firstlineno)
        with pytest.raises(ContractError, match="told apart"):
            Contract(Attributes, rules=[made])

    def test_what_has_no_name_is_refused(self) -> None:
        """A callable object needs a name; with one it serves."""

        class Callable:
            def __call__(self, out: Attributes) -> bool:
                return False

        with pytest.raises(ContractError, match="no name"):
            Contract(Attributes, rules=[Callable()])
        named: Rule[Attributes] = rule(name="never", version=3)(Callable())
        assert Contract(Attributes, rules=[named]).check(GOOD).detail == "never"

    def test_wrong_arguments_are_refused(self) -> None:
        """Functions that could never be called are refused when the contract is made."""

        def three(a: Any, b: Any, c: Any) -> bool:
            return True

        two: Any = one_sentence.fn
        with pytest.raises(ContractError, match="takes 3 arguments"):
            Contract(Attributes, rules=[three])  # type: ignore[list-item]
        with pytest.raises(ContractError, match="takes 2 arguments"):
            Contract(Attributes, sparse=lambda out, row: True)  # type: ignore[misc,arg-type]
        with pytest.raises(ContractError, match="one name"):
            Contract(Attributes, rules=[one_sentence, two])
        for version in (0, True, "1"):
            with pytest.raises(ContractError, match="version"):
                rule(version=version)  # type: ignore[arg-type]
        with pytest.raises(ContractError, match="list of names"):
            rule(fields="title")


class TestSparse:
    def test_a_sparse_answer_goes_to_people(self, contract: Contract[Attributes]) -> None:
        """An answer that says too little is known is neither valid nor wrong, and no rule is asked."""
        verdict = contract.check(answer(category=None, summary="One. Two."))
        assert verdict.reason is Reason.OUTPUT_SPARSE
        assert verdict.output is not None

    def test_a_person_is_never_too_sparse(self, contract: Contract[Attributes]) -> None:
        """A person who says "nothing" has decided: the answer is valid."""
        assert contract.check(json.loads(answer(category=None))).valid
        assert contract.check(Attributes(category=None, features=[], summary="")).valid

    def test_a_sparse_that_raises_is_a_reason(self) -> None:
        """A predicate that raises is reported like a rule."""

        def sparse(out: Attributes) -> bool:
            raise KeyError

        assert Contract(Attributes, sparse=sparse).check(GOOD).detail == "code failed: sparse raised KeyError"

    def test_sparse_input_reads_the_record(self) -> None:
        """A record that says too little is known before anything is sent; an error there is the caller's."""
        contract = Contract(Attributes, sparse_input=lambda row: not row["title"])
        assert contract.sparse_row({"title": ""})
        assert not contract.sparse_row({"title": "x"})
        assert not Contract(Attributes).sparse_row({})
        assert not contract.needs_row
        with pytest.raises(UsageError, match="'title', which is not frozen"):
            contract.sparse_row({})
        with pytest.raises(UsageError, match="ZeroDivisionError"):
            Contract(Attributes, sparse_input=lambda row: bool(1 / len(row))).sparse_row({})


class TestPeople:
    def test_a_validator_that_fails_badly(self) -> None:
        """A validator that raises on a person's answer is a reason too."""

        class Broken(BaseModel):
            a: int

            @field_validator("a")
            @classmethod
            def _check(cls, value: int) -> int:
                raise KeyError("secret")

        assert Contract(Broken).check({"a": 1}).detail == "code failed: the model raised KeyError"

    @pytest.mark.parametrize("value", [{"category": {1, 2}}, {"category": "\ud800"}, {"category": object()}])
    def test_an_answer_that_is_no_json_is_refused(self, contract: Contract[Attributes], value: Any) -> None:
        """A person's answer that cannot be written down is refused with a reason, not a crash."""
        assert not contract.check(value).valid

    def test_the_same_contract_judges_people(self, contract: Contract[Attributes]) -> None:
        """A person's answer is held to the schema and the rules."""
        assert (
            contract.check({"category": "Audio", "features": [], "summary": "A. B."}).reason
            is Reason.OUTPUT_RULE
        )
        assert locs(contract.check({"category": "x", "features": [], "summary": ""}).detail) == {
            "category": "literal_error"
        }
        wrong: Any = ["list"]
        assert contract.check(wrong).reason is Reason.OUTPUT_UNPARSEABLE
        unchecked = Attributes.model_construct(category="x", features=[], summary="")
        assert contract.check(unchecked).reason is Reason.OUTPUT_SCHEMA
