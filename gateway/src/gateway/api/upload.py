"""`POST /upload`: a file goes from the socket to the store piece by piece, then its import is asked
for. Nothing of it stays in the store unless the answer is 202.

The event names the file by its address in the store. With an Idempotency-Key the first request that
stores its file decides that address: a repetition with the same content asks for the same event
again and takes its own copy back. When an event was not confirmed the file is deleted, and the next
attempt is a new event, because the old one may still arrive and then finds no file.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Protocol
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request
from moviemetric_contracts import ImportCatalog
from pydantic import TypeAdapter, ValidationError
from service_kit import Blob, Outage
from service_kit.http import ProblemError
from starlette.responses import Response
from starlette.types import Receive

from gateway import metrics
from gateway.access import Principal
from gateway.api.jobs import accepted
from gateway.api.parameters import one_of
from gateway.api.streamed import Refusal
from gateway.bodies import invalid
from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.jobs import job_id_of
from gateway.limits import content_length
from gateway.multipart import FormError, MultipartReader, Part, boundary_of
from gateway.openapi import HEADERS
from gateway.policies import Policies, Policy
from gateway.sending import CommandSender, used_before
from gateway.settings import Settings
from gateway.shapes import UPLOAD_RESPONSES, JobAccepted
from gateway.uploads import HEAD_BYTES, label_of, unlike_text

log = logging.getLogger(__name__)

ROUTE: Final = "/upload"
FORMAT_PATTERN: Final = r"^[a-z0-9][a-z0-9_.-]{0,49}$"
# Of a body, beyond the file in it: boundaries, headers and fields.
_FORM_BYTES: Final = 64 * 1024
_FIELD_BYTES: Final = 200
_RETRY_AFTER: Final = "10"
_FORMAT: Final = TypeAdapter(Annotated[str, Query(pattern=FORMAT_PATTERN)])
_DRY_RUN: Final = TypeAdapter(bool)

DOCS: Final[dict[str, Any]] = {
    "parameters": HEADERS,
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "minLength": 1,
                            "description": "CSV, TSV or JSON, plain or gzip",
                        },
                        "format": {
                            "type": "string",
                            "pattern": FORMAT_PATTERN,
                            "default": "auto",
                            "description": "of the file; `auto` recognises it from the header",
                        },
                        "dry_run": {
                            "type": "boolean",
                            "default": False,
                            "description": "only find out what the import would do",
                        },
                    },
                    "additionalProperties": False,
                }
            }
        },
    },
}


class UploadStore(Protocol):
    """What the gateway needs of `service_kit.BlobStore`; raises Outage."""

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store what `chunks` yields; nothing stays behind when it raises."""
        ...

    async def delete(self, uri: str) -> None:
        """Delete what `put` stored."""
        ...


class RequestBody:
    """A request's body in pieces, bounded in bytes and in the time between two pieces."""

    def __init__(self, receive: Receive, *, max_bytes: int, idle_seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._taken = 0
        self._ended = False

    @property
    def unread(self) -> Receive | None:
        """Where the rest of it arrives, None if there is no more."""
        return None if self._ended else self._receive

    async def __call__(self) -> bytes:
        """The next bytes, empty at the end.

        Raises:
            ProblemError: 408 nothing came in time, 413, 400 the client went away.
        """
        while not self._ended:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await self._receive()
            except TimeoutError:
                raise ProblemError(
                    408,
                    "Upload timed out",
                    f"Nothing arrived for {self._idle_seconds:g} seconds; {self._taken} bytes "
                    "were there. Nothing was kept.",
                ) from None
            if message["type"] == "http.disconnect":
                self._ended = True
                raise ProblemError(400, "Incomplete body", "The connection ended within it.")
            body: bytes = message.get("body", b"")
            self._ended = not message.get("more_body", False)
            self._taken += len(body)
            if self._taken > self._max_bytes:
                raise too_large(self._max_bytes - _FORM_BYTES)
            if body:
                return body
        return b""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the store and what to do with it."""

    blob: Blob
    filename: str | None
    format: str
    dry_run: bool

    @property
    def asked(self) -> str:
        """The same for two uploads that ask for the same."""
        return f"{self.blob.sha256} {self.format} {self.dry_run}"


class Upload:
    """The handler; `store` is None while no store is configured."""

    def __init__(
        self,
        settings: Settings,
        store: UploadStore | None,
        sender: CommandSender,
        cache: Cache,
        policies: Policies,
    ) -> None:
        self._policy = closing_policy(policies.admin)
        self._max_bytes = settings.upload_max_bytes
        self._idle_seconds = settings.upload_idle_seconds
        self._free = settings.upload_concurrency
        self._store = store
        self._sender = sender
        self._cache = cache

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            ROUTE,
            self.post,
            methods=["POST"],
            status_code=202,
            tags=["imports"],
            summary="Import a file of films",
            dependencies=[Depends(self._policy)],
            responses={202: {"model": JobAccepted}, **UPLOAD_RESPONSES},
            response_model=None,
            openapi_extra=DOCS,
        )

    async def post(
        self,
        request: Request,
        format: Annotated[
            str | None,
            Query(pattern=FORMAT_PATTERN, description="of the file; or as a field of the form"),
        ] = None,
        dry_run: Annotated[
            bool | None, Query(description="only find out; or as a field of the form")
        ] = None,
    ) -> Response:
        """Up to 1 GiB unless configured otherwise. Follow the job: each bad row is named there."""
        body = RequestBody(
            request.receive,
            max_bytes=self._max_bytes + _FORM_BYTES,
            idle_seconds=self._idle_seconds,
        )
        try:
            response = await self._answer(request, body, format, dry_run)
        except Outage as outage:
            log.warning("an upload was refused", extra={"reason": str(outage)})
            problem = _unavailable("The upload store is not available at the moment.")
            response = Refusal(problem, body.unread)
        except ProblemError as problem:
            response = Refusal(problem, body.unread)
        metrics.UPLOADS.labels(str(response.status_code)).inc()
        return response

    async def _answer(
        self,
        request: Request,
        body: RequestBody,
        asked_format: str | None,
        asked_dry_run: bool | None,
    ) -> Response:
        identity = RequestIdentity.from_headers(request.scope["headers"])
        announced = content_length(request.scope)
        if announced > self._max_bytes + _FORM_BYTES:
            raise too_large(self._max_bytes)
        async with self._slot() as store:
            try:
                boundary = boundary_of(request.headers.get("content-type", ""))
                form = UploadForm(MultipartReader(boundary, body), store, self._max_bytes)
                blob = await form.store_file()
            except FormError as error:
                raise _bad_form(error) from None
            try:
                stored = Stored(
                    blob,
                    form.filename,
                    one_of("format", asked_format, "format", form.format) or "auto",
                    bool(one_of("dry_run", asked_dry_run, "dry_run", form.dry_run)),
                )
                return await self._import(identity, store, stored)
            except BaseException:
                await _discard(store, blob.uri)
                raise

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[UploadStore]:
        if self._store is None:
            raise _unavailable(
                "This installation has no upload store: UPLOAD_STORE_URL is not set "
                "(file:///folder or s3://bucket/prefix)."
            )
        if self._free < 1:
            raise _unavailable("Too many uploads are under way.")
        self._free -= 1
        try:
            yield self._store
        finally:
            self._free += 1

    async def _import(
        self, identity: RequestIdentity, store: UploadStore, stored: Stored
    ) -> Response:
        """Returns when the import is asked for; takes the file back itself if it is a copy."""
        if identity.idempotency_key is None:
            return await self._send(identity, identity.event_id(ROUTE), stored, stored.blob.uri)
        use = identity.event_id(ROUTE)
        given_up = await self._cache.given_up(use)
        asked = f"{stored.asked} {given_up}" if given_up else stored.asked
        claim = f"{stored.asked} {stored.blob.uri}"
        earlier = await self._cache.claim(use, claim) or claim
        if not earlier.startswith(f"{stored.asked} "):
            raise used_before()
        event_id = identity.event_id(ROUTE, asked)
        if earlier != claim:
            uri = earlier.removeprefix(f"{stored.asked} ")
            response = await self._send(identity, event_id, stored, uri)
            await _discard(store, stored.blob.uri)
            return response
        try:
            return await self._send(identity, event_id, stored, stored.blob.uri)
        except BaseException:
            await self._cache.give_up_claim(use)
            raise

    async def _send(
        self, identity: RequestIdentity, event_id: str, stored: Stored, uri: str
    ) -> Response:
        now = datetime.now(UTC)
        job_id = job_id_of("import", event_id)
        command = ImportCatalog(
            job_id=job_id,
            format=stored.format,
            uri=uri,
            filename=stored.filename,
            dry_run=stored.dry_run,
        )
        await self._sender.send(identity, event_id, command, now)
        await self._cache.remember_job(job_id, "import", now.isoformat().replace("+00:00", "Z"))
        metrics.UPLOADED_BYTES.inc(stored.blob.size)
        return accepted(identity, event_id, job_id)


class UploadForm:
    """Reads the form from its first part to its last, and stores the file on the way."""

    def __init__(self, form: MultipartReader, store: UploadStore, max_bytes: int) -> None:
        self._form = form
        self._store = store
        self._max_bytes = max_bytes
        self.filename: str | None = None
        self.format: str | None = None
        self.dry_run: bool | None = None

    async def store_file(self) -> Blob:
        """The file, once the whole form is read and good; otherwise nothing stays stored.

        Raises:
            FormError, ProblemError, Outage
        """
        blob: Blob | None = None
        try:
            while (part := await self._form.next_part()) is not None:
                if part.name != "file":
                    await self._take_field(part)
                elif blob is not None:
                    msg = "the form has more than one file; send one at a time"
                    raise FormError(msg)
                else:
                    blob = await self._take_file(part)
            await self._form.skip_epilogue()
        except BaseException:
            if blob is not None:
                await _discard(self._store, blob.uri)
            raise
        if blob is None:
            msg = "the form has no part named 'file'"
            raise FormError(msg)
        return blob

    async def _take_file(self, part: Part) -> Blob:
        if part.filename is None:
            msg = "the part 'file' has no file name; send a file (curl -F file=@films.csv)"
            raise FormError(msg)
        self.filename = label_of(part.filename)
        head = bytearray()
        while len(head) < HEAD_BYTES and (piece := await self._form.read()):
            head += piece
        if not head:
            msg = "the file is empty"
            raise FormError(msg)
        if (looks_like := unlike_text(bytes(head[:HEAD_BYTES]))) is not None:
            msg = (
                f"a CSV, TSV or JSON file, plain or gzip, is expected; this looks like {looks_like}"
            )
            raise FormError(msg)
        return await self._store.put(f"upload-{uuid4().hex}", self._content(bytes(head)))

    async def _content(self, head: bytes) -> AsyncGenerator[bytes]:
        size = 0
        piece = head
        while piece:
            size += len(piece)
            if size > self._max_bytes:
                raise too_large(self._max_bytes)
            yield piece
            piece = await self._form.read()

    async def _take_field(self, part: Part) -> None:
        if part.filename is not None:
            msg = f"the file is in the part {part.name[:80]!a}; it belongs into 'file'"
            raise FormError(msg)
        if part.name not in ("format", "dry_run"):
            raise invalid([(_shown(part.name), "is no field of this form")])
        if getattr(self, part.name) is not None:
            raise invalid([(part.name, "is there twice")])
        text = await self._form.read_text(_FIELD_BYTES)
        try:
            if part.name == "format":
                self.format = _FORMAT.validate_python(text)
            else:
                self.dry_run = _DRY_RUN.validate_python(text.strip())
        except ValidationError as error:
            raise invalid([(part.name, error.errors()[0]["msg"])]) from None


class EarlyRefusalError(ProblemError):
    """A problem that is answered while the body, which is not wanted, is still arriving."""

    def __init__(self, problem: ProblemError, unread: Receive) -> None:
        super().__init__(
            problem.status,
            problem.title,
            problem.detail,
            errors=problem.errors,
            headers=problem.headers,
        )
        self._problem = problem
        self._unread = unread

    def response(self) -> Response:
        """Sent at once; then the connection closes."""
        return Refusal(self._problem, self._unread)


def closing_policy(policy: Policy) -> Policy:
    """The policy, which ends the connection of those it refuses instead of reading their files."""

    async def check(request: Request) -> Principal | None:
        try:
            return await policy.check(request)
        except ProblemError as problem:
            metrics.UPLOADS.labels(str(problem.status)).inc()
            raise EarlyRefusalError(problem, request.receive) from problem

    return replace(policy, check=check)


def too_large(max_bytes: int) -> ProblemError:
    """The 413 for a file above `max_bytes`."""
    return ProblemError(
        413,
        "File too large",
        f"A file may have {max_bytes} bytes at most. Split it, or compress it with gzip.",
        errors=[{"field": "file", "message": f"larger than {max_bytes} bytes"}],
    )


def _bad_form(error: FormError) -> ProblemError:
    text = str(error)
    return ProblemError(
        400,
        "Not an upload",
        f"{text[0].upper()}{text[1:]}.",
        errors=[{"field": "file", "message": text}],
    )


def _unavailable(detail: str) -> ProblemError:
    return ProblemError(503, "No upload", detail, headers={"Retry-After": _RETRY_AFTER})


def _shown(text: str) -> str:
    return text.encode(errors="replace").decode()[:80]


async def _discard(store: UploadStore, uri: str) -> None:
    try:
        with suppress(FileNotFoundError):
            await store.delete(uri)
    except Outage as outage:
        # What nobody fetches is purged in time.
        log.warning("left a file in the store", extra={"uri": uri, "reason": str(outage)})
