"""Rows of the files that captioning systems write, one after the other: JSON, JSON Lines, CSV, TSV, text, Parquet.

A file of any length is read in little memory. Text formats may be compressed with gzip (`inference.json.gz`). Every
fault is one `TableError` that names the file, the row or line, what is wrong and what to do.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from lpmc_errors import TableError

Row = Mapping[str, Any]
Numbered = Iterator[tuple[int, Row]]

CAPTION = "caption"  # the column of a file that has captions alone, such as one a line
KEY = "key"  # the column that holds the names of a JSON object whose values are the rows
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")
CHUNK = 2**18  # characters of a JSON file that are read at a time
LONGEST_VALUE = 2**26  # characters; a longer row of a JSON file is taken for a damaged file
ROWS_AT_ONCE = 1_024  # of a Parquet file
_GZIP = ".gz"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_CUT = 16  # characters; an error of JSON this close to the end of what was read may be a value that goes on


@dataclass(frozen=True)
class Rows:
    """An open table: what to call it, its columns (those of the first row) and its rows with their numbers from 1.

    `unit` is what the numbers count: `row`, or `line` where a row is a line of the file.
    """

    name: str
    columns: tuple[str, ...]
    rows: Numbered
    unit: str = "row"

    def place(self, number: int) -> str:
        """How an error names a row: `inference.json, row 3`."""
        return f"{self.name}, {self.unit} {number}"


def file_suffix(path: Path) -> str:
    """The ending that says how a file is written, in lower case and without `.gz`."""
    return (path.with_suffix("") if path.suffix.lower() == _GZIP else path).suffix.lower()


def open_file(path: Path) -> Rows:
    """The rows of a file. Its beginning is read at once, so that a wrong file is named before anything is computed.

    Raises `TableError`, here and while rows are taken, for a file that is missing, empty, damaged, not UTF-8, or of a
    type that is not read.
    """
    if path.is_dir():
        raise TableError(path, "is a folder", "name a file in it, such as inference.json")
    if not path.is_file():
        raise TableError(path, "no such file", "check the name")
    if path.stat().st_size == 0:
        raise TableError(path, "is empty", "write one row a clip")
    reader = _READERS.get(file_suffix(path))
    if reader is None or (reader is _parquet and path.suffix.lower() == _GZIP):
        raise TableError(
            path, f"files of type {path.suffix or '(none)'} are not read", "use json, jsonl, csv or parquet"
        )
    unit = "line" if reader in (_json_lines, _lines) else "row"
    return peek(str(path), _faults_named(path, reader(path)), unit)


def peek(name: str, rows: Numbered, unit: str = "row") -> Rows:
    """Open rows as a table: the first one is taken, for its columns. Raises `TableError` when there is none."""
    first = next(rows, None)
    if first is None:
        raise TableError(name, "has no rows", "write one row a clip")

    def all_rows() -> Numbered:
        yield first
        yield from rows

    return Rows(name, tuple(first[1]), all_rows(), unit)


def kind_of(value: Any) -> str:
    """What a cell holds, for an error: "nothing", "a number", "a list of 3"."""
    if value is None or value != value:  # NaN differs from itself
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


# --- opening, and what goes wrong -----------------------------------------------------------------------------------


def _faults_named(path: Path, rows: Numbered) -> Numbered:
    """Name the file in what its reading may raise."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise TableError(f"{path}{_undecodable(path)}", "is not UTF-8 text", "save the file as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(path, f"is no whole gzip file ({error})", "download or compress it again") from error
    except RecursionError as error:
        raise TableError(path, "is nested too deeply", "write a list of objects") from error
    except OSError as error:
        problem = f"cannot be read: {' '.join(str(error.strerror or error).split())}"
        raise TableError(path, problem, "check the file and its permissions") from error


def _undecodable(path: Path) -> str:
    """`, line 7` for the first line that is no UTF-8."""
    with _binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f", line {number}"
    return ""


def _binary(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == _GZIP else path.open("rb")


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """The file as text, without the byte order mark that spreadsheets write; line ends stay as they are."""
    with _binary(path) as file:
        head = file.read(64)
        file.seek(0)
        if head.startswith(_UTF16):
            raise TableError(path, "is UTF-16 text", "save it as UTF-8")
        if b"\0" in head:
            raise TableError(path, "holds zero bytes, which no UTF-8 text has", "save it as UTF-8")
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield text


def _limited(path: Path, text: IO[str]) -> Iterator[str]:
    """The lines of a text, none longer than `LONGEST_VALUE`, so that a file without line ends does not fill memory."""
    for number in itertools.count(1):
        line = text.readline(LONGEST_VALUE)
        if not line:
            return
        if len(line) == LONGEST_VALUE:
            raise TableError(f"{path}, line {number}", "goes on for 64 million characters", "write one row a line")
        yield line


# --- one reader a format --------------------------------------------------------------------------------------------


def _lines(path: Path) -> Numbered:
    with _text(path) as text:
        for number, line in enumerate(_limited(path, text), start=1):
            yield number, {CAPTION: line.strip()}


def _csv(path: Path) -> Numbered:
    with _text(path) as text:
        first = text.readline()
        text.seek(0)
        separator = "\t" if file_suffix(path) == ".tsv" else ","
        if separator == "," and "," not in first and ";" in first:
            separator = ";"  # spreadsheets write it where the comma divides decimals
        reader = csv.DictReader(_limited(path, text), delimiter=separator, strict=True)
        try:
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise TableError(path, f"has two columns named {twice[0]!r}", "rename one of them")
            for number, row in enumerate(reader, start=1):
                if None in row:
                    raise TableError(
                        f"{path}, row {number}", "has more cells than the header", "put captions with commas in quotes"
                    )
                yield number, row
        except csv.Error as error:
            raise TableError(
                f"{path}, line {reader.line_num}", f"is not CSV ({error})", "quote the captions"
            ) from error


def _parquet(path: Path) -> Numbered:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:  # else it reads ahead: 452 MB for a million pairs
            wanted = readable_columns(table.schema_arrow)
            rows = (
                row
                for group in range(table.num_row_groups)
                for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=wanted)
                for row in batch.to_pylist()
            )
            yield from enumerate(rows, start=1)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(path, "is not a Parquet file, or a damaged one", "check what wrote it") from error


def readable_columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema that hold texts, numbers, or lists of texts; sound and pictures are heavy."""
    import pyarrow.types as types

    def is_plain(kind: Any) -> bool:
        if types.is_dictionary(kind):
            kind = kind.value_type
        heavy = types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)
        return not (heavy or types.is_fixed_size_binary(kind))

    def is_text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))

    def is_list(kind: Any) -> bool:
        return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))

    return [
        field.name
        for field in schema
        if is_plain(field.type) or (is_list(field.type) and is_text(field.type.value_type))
    ]


def _json_lines(path: Path) -> Numbered:
    with _text(path) as text:
        for number, line in enumerate(_limited(path, text), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:  # also a number of more digits than Python converts
                problem = f"is not JSON ({getattr(error, 'msg', 'a number of thousands of digits')})"
                raise TableError(f"{path}, line {number}", problem, "write one object a line") from error
            yield number, _object(f"{path}, line {number}", value)


def _json(path: Path) -> Numbered:
    """A list of objects, captions or lists of captions; or an object with one of these under the name of each clip."""
    with _text(path) as text:
        stream = _JsonStream(path, text)
        opening = stream.next_sign()
        if opening == "[":
            values: Iterable[Any] = stream.items("]", stream.value)
            for number, value in enumerate(values, start=1):
                yield number, _object(f"{path}, row {number}", value)
        elif opening == "{":
            for number, (key, value) in enumerate(stream.items("}", stream.named_value), start=1):
                yield number, _keyed(path, key, value)
        elif opening:
            raise TableError(path, "is not JSON, or neither a list nor an object", "write [{...}, {...}]")
        if stream.next_sign():
            raise TableError(path, "goes on after its end", "one object a line belongs into a .jsonl file")


def _object(place: str, value: Any) -> Row:
    if isinstance(value, str) or (value and isinstance(value, list) and all(isinstance(text, str) for text in value)):
        return {CAPTION: value}  # captions alone, as in a .txt file, or the references of one clip
    if not isinstance(value, dict):
        raise TableError(
            place,
            f"is {kind_of(value)}, expected an object",
            'write objects such as {"prediction": "...", "ground_truth": "..."}',
        )
    return value


_COLUMNS_OF_TEXTS = frozenset({"prediction", "predictions", "reference", "references", "ground_truth", "true_captions"})


def _keyed(path: Path, key: str, value: Any) -> Row:
    if isinstance(value, dict) and key not in _COLUMNS_OF_TEXTS:
        return {**value, KEY: key}
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts) and key not in _COLUMNS_OF_TEXTS:
        return {CAPTION: value, KEY: key}
    raise TableError(
        f"{path}, entry {key!r}",
        f"is {kind_of(value)}, expected the row or the captions of one clip",
        'write [{"prediction": "...", "ground_truth": "..."}, ...]',
    )


class _JsonStream:
    """The values of a JSON text that is too large to be held, read with the decoder of the standard library."""

    _space = re.compile(r"[ \t\r\n]*")
    _decode = json.JSONDecoder().raw_decode

    def __init__(self, path: Path, text: IO[str]) -> None:
        self._path, self._text = path, text
        self._buffer, self._at = "", 0  # what was read, and the place in it
        self._line = 1  # that the buffer begins in

    def next_sign(self) -> str:
        """The next character that is no white space, and step over it; nothing at the end."""
        sign = self._look()
        self._at += 1
        return sign

    def items(self, closing: str, item: Callable[[], Any]) -> Iterator[Any]:
        """The items of a list or object, read by `item`, up to its `closing` bracket."""
        if self._look() == closing:
            self.next_sign()
            return
        while True:
            yield item()
            sign = self.next_sign()
            if sign == closing:
                return
            if sign != ",":
                raise self._fault(f"expected , or {closing}" if sign else "it ends too early")

    def named_value(self) -> tuple[str, Any]:
        """A name of an object, and its value."""
        if self._look() != '"':
            raise self._fault("expected a name in double quotes")
        name = self.value()
        if self.next_sign() != ":":
            raise self._fault("expected : after a name")
        return name, self.value()

    def value(self) -> Any:
        """The next value."""
        self._look()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except RecursionError:
                raise  # named where the file is
            except ValueError as error:
                if not isinstance(error, json.JSONDecodeError):  # more digits than Python converts
                    raise self._fault("a number of thousands of digits") from error
                line = self._line + error.lineno - 1
                goes_on = error.pos + _CUT >= len(self._buffer) or error.msg.startswith("Unterminated")
                if goes_on and len(self._buffer) - self._at < LONGEST_VALUE and self._read():
                    continue
                raise self._fault(error.msg, line) from error
            self._at = end  # of a number perhaps only its beginning: it is no row either way
            return value

    def _look(self) -> str:
        while True:
            self._at = self._space.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read():
                return ""

    def _read(self) -> bool:
        """Drop what was used and read on, more where a value is long, so that a long one is tried a few times only."""
        new = self._text.read(max(CHUNK, len(self._buffer) - self._at))
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :] + new, 0
        return bool(new)

    def _fault(self, problem: str, line: int | None = None) -> TableError:
        line = line or self._line + self._buffer.count("\n", 0, self._at)
        return TableError(
            self._path,
            f"is not JSON (line {line}: {problem})",
            "one object a line belongs into a .jsonl file",
        )


_READERS: dict[str, Callable[[Path], Numbered]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _lines,
    ".parquet": _parquet,
}
