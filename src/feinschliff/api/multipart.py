"""multipart/form-data straight to the disk: nothing of a file is held in memory, and nothing is read for a caller without a key."""
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from feinschliff.core.errors import FeinschliffError
from feinschliff.core.service_errors import RequestError, TooLarge
from feinschliff.store.blobs import Blobs, Incoming

FIELD_BYTES = 64 * 1024  # of all fields that are no file


@dataclass
class Form:
    """The fields of a form, of a repeated one the last; the bytes of its one file went into an Incoming."""

    fields: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)  # `name[]`, as clients send lists
    filename: str | None = None

    def need(self, name: str) -> str:
        """Raises RequestError."""
        if name not in self.fields:
            raise RequestError(f"'{name}' is a required property", param=name, code="missing_required_parameter")
        return self.fields[name]


@contextmanager
def receiving(blobs: Blobs) -> Iterator[Incoming]:
    """Where a request's file goes; what the use case did not keep is gone at the end."""
    with blobs.incoming() as incoming:
        yield incoming


async def read_form(request: Request, incoming: Incoming, *, file_field: str, most_bytes: int) -> Form:
    """Read the whole body, the file's bytes into `incoming`. Raises RequestError, TooLarge."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or boundary is None:
        raise RequestError(
            "The body must be multipart/form-data.", code="invalid_content_type", hint="With curl: -F purpose=fine-tune -F file=@FILE"
        )
    reader = _Reader(incoming, file_field, most_bytes)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.part_begins,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_ends,
                "on_headers_finished": reader.headers_end,
                "on_part_data": reader.data,
                "on_part_end": reader.part_ends,
                "on_end": reader.form_ends,
            },
        )
        pieces = request.stream()
        try:
            async for piece in pieces:
                # disk and hash in another thread, so that a slow disk does not hold up everyone else
                await run_in_threadpool(parser.write, piece)
        except (FeinschliffError, OSError):
            await _read_off(pieces, most_bytes)
            raise
    except MultipartParseError as error:
        raise RequestError(f"The multipart body is malformed: {error}.", code="invalid_multipart") from None
    if not reader.complete:
        raise RequestError("The multipart body ends too early.", code="invalid_multipart")
    if reader.form.filename is None:
        raise RequestError(f"'{file_field}' is a required property", param=file_field, code="missing_required_parameter")
    return reader.form


async def _read_off(pieces: AsyncGenerator[bytes, None], most_bytes: int) -> None:
    """So that the client reads why it was refused: one that is still sending sees a broken connection instead."""
    async for piece in pieces:
        most_bytes -= len(piece)
        if most_bytes < 0:
            return


class _Reader:
    """The parser's callbacks: what part is being read, and where its bytes go."""

    def __init__(self, incoming: Incoming, file_field: str, most_bytes: int) -> None:
        self.form = Form()
        self.complete = False
        self._incoming = incoming
        self._file_field = file_field
        self._most_bytes = most_bytes
        self._field_bytes = 0
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._is_file = False
        self._value = bytearray()

    def part_begins(self) -> None:
        self._name, self._is_file, self._value = "", False, bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def header_ends(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            self._name = _text(options.get(b"name", b""))
            if b"filename" in options:
                self._begin_file(_unquoted(_text(options[b"filename"])))
        self._header = (bytearray(), bytearray())

    def headers_end(self) -> None:
        if self._name == self._file_field and not self._is_file:
            self._begin_file(self._name)  # a file that was sent as a plain field

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            if self._incoming.size + end - start > self._most_bytes:
                raise TooLarge(f"The file has more than {self._most_bytes:,} bytes.", param=self._file_field, hint="Use POST /v1/uploads.")
            self._incoming.write(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > FIELD_BYTES:
            raise TooLarge(f"The form's fields have more than {FIELD_BYTES:,} bytes.")
        self._value.extend(data[start:end])

    def part_ends(self) -> None:
        if not self._is_file:
            value = _text(bytes(self._value))
            self.form.fields[self._name] = value
            if self._name.endswith("[]"):
                self.form.lists.setdefault(self._name.removesuffix("[]"), []).append(value)

    def form_ends(self) -> None:
        self.complete = True

    def _begin_file(self, filename: str) -> None:
        if self._name != self._file_field:
            raise RequestError(f"There is a file in '{self._name}'; it belongs in '{self._file_field}'.", param=self._name)
        if self.form.filename is not None:
            raise RequestError("There is more than one file.", param=self._file_field)
        self.form.filename, self._is_file = filename, True


def _unquoted(name: str) -> str:
    """Forms write these three so (WHATWG HTML, "multipart form data")."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
