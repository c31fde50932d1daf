"""The only module that imports the SDK, and it does so late: the import alone takes about two CPU seconds.

`Gateway` wraps a client and gives plain values back. Reads are retried for about two seconds and then
raise `ProviderError`; a create is tried once and never raises for the provider's trouble. Neither keys
nor request bodies enter an error or a log line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from batchkit.api_answers import (
    causes_of,
    chain_of,
    content_of,
    date_of,
    error_of,
    json_object,
    number,
    parse,
    read_capped,
    status_error,
)
from batchkit.body import GuardedBody
from batchkit.clock import Clock, SystemClock
from batchkit.connection import WRITE_TIMEOUT, one_shot, own_client, pinned
from batchkit.errors import ProviderError, UsageError
from batchkit.ids import RemoteId
from batchkit.lines import LineSplitter
from batchkit.model import Place
from batchkit.remote import CreateAnswer, ListPage, RemoteBatch, remote_batch, usable_id

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["Gateway", "wire_schema"]

BATCHES = "/v1/messages/batches"
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 120.0
GET_TIMEOUT = 60.0
GET_ATTEMPTS = 4
STREAMED = {"x-stainless-raw-response": "stream"}
"""How the SDK is told to hand over an answer unread; a middleware sees what it sees of ``with_streaming_response``."""

Client: TypeAlias = "anthropic.Anthropic | None"


class Gateway:
    """The Message Batches API over one SDK client."""

    def __init__(self, client: Client = None, *, clock: Clock | None = None) -> None:
        """Wrap a client.

        Args:
            client: A client of the SDK. None makes one, from the environment, when first needed.
            clock: Waits between attempts of a read.
        """
        self._given = client
        self._clock: Clock = clock or SystemClock()
        self._made: anthropic.Anthropic | None = None
        self._fixed = False

    @property
    def client(self) -> anthropic.Anthropic:
        """The SDK client without retries of its own."""
        if self._made is None:
            import anthropic

            given = self._given if self._given is not None else own_client(anthropic)
            self._made = given.with_options(max_retries=0)
        return self._made

    @property
    def base_url(self) -> str:
        """The address requests go to."""
        return str(self.client.base_url).rstrip("/")

    def snapshot(self) -> Gateway:
        """Give a gateway whose credential stays the same, whatever rotates meanwhile."""
        if self._fixed:
            return self
        import anthropic

        copy = Gateway(pinned(anthropic, self.client), clock=self._clock)
        copy._fixed = True
        return copy

    def list(self, limit: int = 100, after_id: RemoteId | None = None) -> ListPage:
        """Read one page of the list of batches, newest first.

        Raises:
            ProviderError: the API refused, failed or could not be reached; ``status`` 404 or 405 where
                there is no such list.
        """
        query: dict[str, object] = {"limit": limit}
        if after_id is not None:
            query["after_id"] = after_id
        response = self._get(BATCHES, query)
        body = json_object(response)
        listed = body.get("data") if body is not None else None
        if body is None or not isinstance(listed, list):
            raise ProviderError(
                "the list of batches is not what the API documents", status=response.status_code
            )
        date = date_of(response)
        items = [remote_batch(item, seen_at=date) if isinstance(item, dict) else None for item in listed]
        if any(item is None for item in items):
            raise ProviderError(
                "the list holds an item that is no Message Batch", status=response.status_code
            )
        return ListPage(
            items=tuple(item for item in items if item is not None),
            has_more=bool(body.get("has_more")),
            place=self._place(response),
            date=date,
            age=number(response.headers.get("age")) or 0.0,
        )

    def retrieve(self, remote: RemoteId) -> RemoteBatch | None:
        """Read one batch. None on 404, which proves nothing.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        try:
            response = self._get(_path(remote))
        except ProviderError as error:
            if error.status == 404:
                return None
            raise
        body = json_object(response)
        found = remote_batch(body, seen_at=date_of(response)) if body is not None else None
        if found is None or found.id != remote:
            raise ProviderError(
                f"the answer about {remote} is no such Message Batch", status=response.status_code
            )
        return found

    @contextmanager
    def results(self, remote: RemoteId) -> Iterator[Iterator[bytes]]:
        """Open the result file of an ended batch: an iterator of its bytes in chunks of about 64 KB.

        The path is ours and the host is the client's; the server's own ``results_url`` is not followed.

        Raises:
            ProviderError: the file cannot be opened, or the stream breaks (raised while iterating).
        """
        response = self._get(_path(remote, "/results"), stream=True)
        try:
            yield _chunks(response)
        finally:
            response.close()

    def first_line(self, remote: RemoteId) -> bytes | None:
        """Read the first result line of an ended batch. None where the file has none.

        Raises:
            ProviderError: the file cannot be opened, or the stream breaks.
        """
        splitter = LineSplitter()
        with self.results(remote) as chunks:
            for chunk in chunks:
                if lines := splitter.feed(chunk):
                    return lines[0]
            lines = splitter.close()
        return lines[0] if lines else None

    def cancel(self, remote: RemoteId) -> RemoteBatch | None:
        """Ask the API to cancel a batch of ours. Give what it says, or None on 404.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        response = self._call("POST", _path(remote, "/cancel"), None, missing=True)
        body = json_object(response) if response.status_code == 200 else None
        return remote_batch(body) if body is not None else None

    def message(self, params: Mapping[str, object]) -> dict[str, Any]:
        """Make one live call and give the message as the API sent it.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        return self._answered(self._call("POST", "/v1/messages", params, timeout=600.0))

    def count_tokens(self, params: Mapping[str, object]) -> int:
        """Count the input tokens of a request.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        known = {"messages", "model", "system", "tools", "tool_choice", "thinking", "output_config"}
        body = {name: value for name, value in params.items() if name in known}
        counted = self._answered(self._call("POST", "/v1/messages/count_tokens", body)).get("input_tokens")
        if not isinstance(counted, int):
            raise ProviderError("the token count is not what the API documents")
        return counted

    def model(self, name: str) -> dict[str, Any]:
        """Read a model's capabilities and limits.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        return self._answered(self._get(f"/v1/models/{quote(name, safe='')}"))

    def models(self) -> tuple[str, ...]:
        """List the names of the models that the API knows, newest first.

        Raises:
            ProviderError: the API refused, failed or could not be reached.
        """
        listed = self._answered(self._get("/v1/models", {"limit": 1000})).get("data")
        items = listed if isinstance(listed, list) else []
        return tuple(str(item["id"]) for item in items if isinstance(item, dict) and "id" in item)

    def create(self, body: GuardedBody, *, timeout: float = READ_TIMEOUT) -> CreateAnswer:
        """Send a create once and say what happened. Raises only for what is no trouble of the provider.

        A connection of its own carries it, so that no stale one of a pool turns it into a doubt, unless the
        user's client brings its own HTTP client.

        Args:
            body: The body; it is the one to say whether its last chunk was handed over.
            timeout: Seconds to wait for the answer once the body is sent.
        """
        import anthropic
        import httpx2

        with one_shot(anthropic, self.client) as client:
            call: Any = client.post
            try:
                wrapped = call(
                    BATCHES,
                    content=body,
                    cast_to=anthropic.APIResponse[object],
                    options={
                        "headers": {
                            **STREAMED,
                            "content-type": "application/json",
                            "content-length": str(len(body)),
                        },
                        "timeout": httpx2.Timeout(
                            connect=CONNECT_TIMEOUT, read=timeout, write=WRITE_TIMEOUT, pool=CONNECT_TIMEOUT
                        ),
                        "follow_redirects": False,
                    },
                )
            except anthropic.APIStatusError as error:
                return self._answer(error.response, body.handed_over, content_of(error.response))
            except Exception as error:
                return CreateAnswer(handed_over=body.handed_over, causes=causes_of(error))
            response = wrapped.http_response
            try:
                content = read_capped(response, self._clock.monotonic, timeout)
            except Exception as error:
                return CreateAnswer(handed_over=body.handed_over, causes=causes_of(error))
            finally:
                response.close()
            return self._answer(response, body.handed_over, content)

    def _answer(self, response: httpx2.Response, handed_over: bool, content: bytes) -> CreateAnswer:
        body = parse(content)
        kind, message, code = error_of(body)
        return CreateAnswer(
            handed_over=handed_over,
            status=response.status_code,
            body=body,
            error_type=kind,
            error_message=message,
            error_code=code,
            retry_after=number(response.headers.get("retry-after")),
            place=self._place(response),
            date=date_of(response),
            request_id=response.headers.get("request-id", ""),
        )

    def _place(self, response: httpx2.Response) -> Place:
        return Place(
            base_url=self.base_url,
            organization=response.headers.get("anthropic-organization-id", ""),
            workspace=response.headers.get("anthropic-workspace-id", ""),
        )

    def _get(
        self, path: str, query: Mapping[str, object] | None = None, *, stream: bool = False
    ) -> httpx2.Response:
        import tenacity

        def once() -> httpx2.Response:
            return self._call("GET", path, None, query=query, stream=stream)

        def may_help(error: BaseException) -> bool:
            if not isinstance(error, ProviderError):
                return False
            if error.retry_after is not None and error.retry_after > 1:
                return False
            return error.status is None or error.status in {408, 409, 429} or error.status >= 500

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(GET_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=0.7),
            retry=tenacity.retry_if_exception(may_help),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return retrying(once)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        *,
        query: Mapping[str, object] | None = None,
        stream: bool = False,
        timeout: float = GET_TIMEOUT,
        missing: bool = False,
    ) -> httpx2.Response:
        """Make one call, with the SDK's errors turned into ours; ``missing`` gives a 404 back as an answer."""
        import anthropic
        import httpx2

        options: dict[str, object] = {
            "follow_redirects": False,
            "timeout": httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        }
        if query:
            options["params"] = query
        if stream:
            options["headers"] = STREAMED
        client: Any = self.client
        try:
            wrapper = anthropic.APIResponse[object]
            if method == "GET":
                answer = client.get(path, cast_to=wrapper, options=options)
            else:
                answer = client.post(path, cast_to=wrapper, options=options, body=body)
            response: httpx2.Response = answer.http_response
        except anthropic.APIStatusError as error:
            if missing and error.response.status_code == 404:
                return error.response
            failure = status_error(error.response, path)
        except anthropic.APIConnectionError as error:
            failure = ProviderError(f"{method} {path}: the API could not be reached ({chain_of(error)})")
        else:
            if response.status_code == 200:
                return response
            response.close()
            failure = ProviderError(
                f"{method} {path}: HTTP {response.status_code}", status=response.status_code
            )
        # The SDK's error holds the request with the key's header: it must not hang on ours.
        raise failure from None

    @staticmethod
    def _answered(response: httpx2.Response) -> dict[str, Any]:
        body = json_object(response)
        if body is None:
            raise ProviderError("the answer is not a JSON object", status=response.status_code)
        return body


def wire_schema(schema: Mapping[str, Any] | type[Any]) -> dict[str, Any]:
    """Make the schema that ``output_config.format`` takes, by the SDK's own ``transform_schema``.

    Raises:
        UsageError: the SDK cannot express the schema.
    """
    from anthropic import transform_schema

    try:
        return transform_schema(schema if isinstance(schema, type) else dict(schema))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UsageError(f"the contract's schema cannot be sent to the API: {error}") from error


def _path(remote: RemoteId, tail: str = "") -> str:
    if not usable_id(remote):
        raise UsageError("this is no id of a remote batch")
    return f"{BATCHES}/{quote(remote, safe='')}{tail}"


def _chunks(response: httpx2.Response) -> Iterator[bytes]:
    import httpx2

    try:
        yield from response.iter_bytes()
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise ProviderError(f"the result stream broke off ({chain_of(error)})") from None
