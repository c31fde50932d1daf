"""Versioned rules: what a schema cannot say of an answer, as named functions."""

from __future__ import annotations

import inspect
import io
import tokenize
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload

import attrs

from batchkit.errors import ContractError, MissingField
from batchkit.verdict import CODE_FAILED, code_failure

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Fields: TypeAlias = Mapping[str, "str | None"]
"""A record's used fields as text; None where missing."""


class _Row(dict[str, "str | None"]):
    """A record as a rule sees it: reading a field that was not frozen says how to get it frozen."""

    def __missing__(self, name: str) -> str | None:
        raise MissingField(
            f"reads {name!r}, which is not frozen: name it in @rule(fields=[...]) or metadata=[...]"
        )


@attrs.frozen(kw_only=True)
class Rule(Generic[T_contra]):
    """A named, versioned check. Called with the output, and with the record too if the function takes two arguments.

    Attributes:
        name: Stands in fingerprints, receipts and details.
        version: Raised by hand when the meaning changes; the code itself is never compared.
        fn: Gives True where the rule holds, False or a message where it does not.
        takes_row: Whether ``fn`` takes the record as its second argument.
        fields: The record's fields it reads, frozen with the run.
        source: The text of a lambda, which has no other identity.
    """

    name: str
    version: int = 1
    fn: Callable[..., object] = attrs.field(repr=False)
    takes_row: bool = False
    fields: tuple[str, ...] = ()
    source: str = ""

    def __call__(self, output: T_contra, row: Fields | None = None) -> object:
        """Call the function."""
        if not self.takes_row:
            return self.fn(output)
        return self.fn(output, _Row(row or {}))

    def of_row(self, row: Fields) -> object:
        """Call the function, which takes the record and nothing else.

        Raises:
            MissingField: it reads a field that was not frozen.
        """
        return self.fn(_Row(row))

    def violation(self, output: T_contra, row: Fields | None) -> str | None:
        """Give what is wrong, or None. Whatever the function raises is a violation with the rule's name."""
        try:
            result = self.fn(output, _Row(row or {})) if self.takes_row else self.fn(output)
        except MissingField as error:
            return f"{CODE_FAILED}{self.title} {error}"
        except Exception as error:
            return code_failure(self.title, error)
        if result is True:
            return None
        if isinstance(result, str):
            return f"{self.title}: {result}" if result else self.title
        if type(result).__name__ in {"bool", "bool_"}:  # numpy's bool is no bool
            return None if result else self.title
        return f"{CODE_FAILED}{self.title} gave {type(result).__name__}, not True, False or a message"

    @property
    def title(self) -> str:
        """What people read: the name, or the text of a lambda."""
        return self.source or self.name

    @property
    def identity(self) -> dict[str, Any]:
        """What stands for the rule in a fingerprint."""
        said: dict[str, Any] = {"name": self.name, "version": self.version}
        if self.source:
            said["source"] = self.source
        if self.fields:
            said["fields"] = list(self.fields)
        return said


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[[T], bool | str], /) -> Rule[T]: ...
    @overload
    def __call__(self, fn: Callable[[T, Fields], bool | str], /) -> Rule[T]: ...


def rule(*, version: int = 1, name: str | None = None, fields: Sequence[str] = ()) -> _Decorator:
    """Make a rule of a function of the output, or of the output and the record.

    Args:
        version: Raise it when the meaning changes; locks made under another version no longer match.
        name: In place of the function's own.
        fields: The record's fields that the function reads, so that they are frozen with the run.
    """
    if isinstance(fields, str):
        raise ContractError("a rule's fields are a list of names, not one text")
    if type(version) is not int or version < 1:
        raise ContractError(f"a rule's version is a whole number of at least 1, not {version!r}")

    def decorate(fn: Callable[..., Any]) -> Rule[Any]:
        return _made(fn, version=version, name=name, fields=tuple(fields), arguments=2)

    return decorate


def as_rule(fn: Callable[..., object], *, arguments: int = 2) -> Rule[Any]:
    """Make a rule of what a user passed: a rule, a named function (version 1) or a lambda (by its source text).

    Args:
        fn: The function.
        arguments: How many arguments it may take at most.

    Raises:
        ContractError: it cannot be called so, has no name, or is a lambda whose source cannot be read.
    """
    if isinstance(fn, Rule):
        if fn.takes_row and arguments < 2:
            raise ContractError(f"{fn.name} takes two arguments; here it is called with one")
        return fn
    return _made(fn, version=1, name=None, fields=(), arguments=arguments)


def _made(
    fn: Callable[..., Any], *, version: int, name: str | None, fields: tuple[str, ...], arguments: int
) -> Rule[Any]:
    if not callable(fn):
        raise ContractError(f"a rule is a function, not {type(fn).__name__}")
    own = getattr(fn, "__name__", "")
    source = ""
    if own == "<lambda>" and name is None:
        source = lambda_source(fn)
    elif not (name or own):
        raise ContractError(f"{fn!r} has no name to stand for it; wrap it: rule(name=..., version=1)(fn)")
    takes = _arity(fn, name or own)
    if takes > arguments:
        raise ContractError(f"{name or own} takes {takes} arguments; here it is called with {arguments}")
    return Rule(name=name or own, version=version, fn=fn, takes_row=takes == 2, fields=fields, source=source)


def _arity(fn: Callable[..., Any], name: str) -> int:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError) as error:
        raise ContractError(f"{name} does not tell what arguments it takes; wrap it in a function") from error
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if not 1 <= len(needed) <= 2:
        raise ContractError(
            f"{name} takes {len(needed)} arguments; a rule takes the output, or the output and the row"
        )
    return len(needed)


def lambda_source(fn: Callable[..., Any]) -> str:
    """Give a lambda's own text, blanks collapsed: from ``lambda`` to where its expression ends.

    Raises:
        ContractError: there is no source (an interactive prompt), or two lambdas of one line look the same.
    """
    advice = "use a named function, or @rule(version=1)"
    try:
        lines, _ = inspect.findsource(fn)
    except (OSError, TypeError) as error:
        raise ContractError(
            f"a lambda stands for itself by its source text, and it has none here; {advice}"
        ) from error
    code = fn.__code__
    first = lines[code.co_firstlineno - 1] if code.co_firstlineno <= len(lines) else ""
    rest = lines[code.co_firstlineno :]
    found = set()
    for start in (at for at in range(len(first)) if first.startswith("lambda", at)):
        text = "".join([first[start:], *rest])
        # Whether it stands in brackets, where a line's end does not end it, is not known from here.
        found |= {piece for piece in (_cut(text, "("), _cut(text, "")) if _compiles_to(piece, code)}
    texts = {" ".join(piece.split()) for piece in found}
    if len(texts) != 1:
        raise ContractError(
            f"the source text of a lambda on line {code.co_firstlineno} cannot be told apart; {advice}"
        )
    return texts.pop()


def _cut(text: str, opening: str) -> str:
    """Cut a text that begins with a lambda at the lambda's end, as if ``opening`` stood before it."""
    depth, pending = -len(opening), 0
    row, column = 1, len(opening)
    try:
        for token in tokenize.generate_tokens(io.StringIO(opening + text).readline):
            closing = token.string in {")", "]", "}"}
            ends = token.string == "," and not pending
            if depth == 0 and (closing or ends or token.type in {tokenize.NEWLINE, tokenize.ENDMARKER}):
                break
            if token.type == tokenize.OP:
                depth += (token.string in {"(", "[", "{"}) - closing
            if depth == 0 and token.string == "lambda":
                pending += 1
            elif depth == 0 and token.string == ":" and pending:
                pending -= 1
            if token.type not in {tokenize.NL, tokenize.COMMENT}:
                row, column = token.end
    except (tokenize.TokenError, SyntaxError):
        pass  # what follows the lambda may be no Python, such as the prose around a code block
    lines = (opening + text).splitlines(keepends=True)[:row]
    lines[-1] = lines[-1][:column]
    return "".join(lines)[len(opening) :]


def _compiles_to(text: str, code: CodeType) -> bool:
    """Tell whether a text is the lambda of this code. What it captures is captured again, so that nothing differs."""
    try:
        outer = compile(f"def _({', '.join(code.co_freevars)}): return ({text}\n)", "<lambda>", "exec")
    except (SyntaxError, ValueError):
        return False
    function = next(const for const in outer.co_consts if isinstance(const, CodeType))
    return any(isinstance(const, CodeType) and _same(const, code) for const in function.co_consts)


_INNER = ("<lambda>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, str) and isinstance(two, str) and one.endswith(_INNER):
        return two.endswith(
            _INNER
        )  # Python 3.10 keeps the qualified names of inner functions among the constants
    if not isinstance(one, CodeType) or not isinstance(two, CodeType):
        return type(one) is type(two) and bool(one == two)
    said = (one.co_code, one.co_names, one.co_varnames, one.co_freevars, len(one.co_consts))
    if said != (two.co_code, two.co_names, two.co_varnames, two.co_freevars, len(two.co_consts)):
        return False
    return all(map(_same, one.co_consts, two.co_consts))
