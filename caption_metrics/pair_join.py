"""Predictions in one file, references in another: brought together by the names of the clips, or by their order."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from caption_metrics.pair_files import CAPTION, Rows
from caption_metrics.pairs import (
    ID_COLUMNS,
    PREDICTION_COLUMNS,
    REFERENCE_COLUMNS,
    Pair,
    cell_text,
    choose_column,
    choose_id,
    extra_of,
    open_rows,
    prediction_of,
    references_of,
    tags_of,
    whole_text,
)
from lpmc_errors import TableError

EXAMPLES = 3  # names shown of clips that are missing or repeated

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE predicted (place INTEGER PRIMARY KEY, id TEXT, text TEXT, tags TEXT, extra TEXT);
CREATE TABLE meant (place INTEGER PRIMARY KEY, id TEXT, texts TEXT, tags TEXT, extra TEXT);
"""


def join_pairs(
    predictions: str | Path,
    references: str | Path,
    *,
    id_column: str | None = None,
    prediction: str | None = None,
    reference: str | None = None,
) -> Iterator[Pair]:
    """Pairs from a file of predictions and one of references, in the order of the predictions.

    Both may be anything that `iterate_pairs` reads, or text with one caption a line. They are joined by the column that
    names the clips (`id_column`, else the first usual name that both have), or, where neither has one, by their order
    if they have equally many rows. A clip with several references may have several rows in the second file.

    Both are read to their end before the first pair is given, into a temporary database on the disk, so that memory
    stays small and nothing is scored of files that do not fit. Raises `TableError` when a clip is missing on either
    side, when predictions repeat a clip, or when the numbers of rows differ.
    """
    said, meant = open_rows(predictions, texts=True), open_rows(references, texts=True)
    ids = _id_columns(said, meant, id_column)
    database = sqlite3.connect("", check_same_thread=False)  # no name: a private file that goes with the connection
    try:
        database.executescript(_TABLES)
        _store_predictions(database, said, prediction, ids and ids[0])
        _store_references(database, meant, reference, ids and ids[1])
        if ids is None:
            _check_lengths(database, said, meant)
        else:
            _check_ids(database, said, meant)
    except BaseException:
        database.close()
        raise
    return _pairs(database, named=ids is not None)


def _id_columns(said: Rows, meant: Rows, wanted: str | None) -> tuple[str, str] | None:
    if wanted is None:
        shared = next((name for name in ID_COLUMNS if name in said.columns and name in meant.columns), None)
        first, second = shared or choose_id(said, None), shared or choose_id(meant, None)
        if first is None and second is None:
            return None
        if first is not None and second is not None:
            return first, second
        has, lacks = (said, meant) if first is not None else (meant, said)
        raise TableError(
            lacks.name,
            f"has no column that names the clips, but {has.name} has {first or second}",
            "write the names into both files, or into neither to join them by order",
        )
    return choose_column(said, "id", wanted, ()), choose_column(meant, "id", wanted, ())


def _named(table: Rows, number: int, value: object, column: str | None) -> str | None:
    if column is None:
        return None
    name = cell_text(value)
    if name is None:
        raise TableError(table.place(number), f"column {column} names no clip", "write a name into every row")
    return whole_text(table, number, column, name)


def _store_predictions(database: sqlite3.Connection, table: Rows, wanted: str | None, name: str | None) -> None:
    column = choose_column(table, "prediction", wanted, PREDICTION_COLUMNS)
    used = frozenset({column, name})
    database.executemany(
        "INSERT INTO predicted VALUES (?, ?, ?, ?, ?)",
        (
            (
                place,
                _named(table, number, row.get(name or ""), name),
                prediction_of(table, number, row, column),
                _written(tags_of(row)),
                _written(extra_of(row, used)),
            )
            for place, (number, row) in enumerate(table.rows, start=1)
        ),
    )


def _store_references(database: sqlite3.Connection, table: Rows, wanted: str | None, name: str | None) -> None:
    column = choose_column(table, "reference", wanted, (*REFERENCE_COLUMNS, CAPTION))
    used = frozenset({column, name})
    database.executemany(
        "INSERT INTO meant VALUES (?, ?, ?, ?, ?)",
        (
            (
                place,
                _named(table, number, row.get(name or ""), name),
                _written(references_of(table, number, row, column)),
                _written(tags_of(row)),
                _written(extra_of(row, used)),
            )
            for place, (number, row) in enumerate(table.rows, start=1)
        ),
    )


def _written(value: tuple[str, ...] | dict[str, str]) -> str | None:
    return json.dumps(value) if value else None  # ASCII: tags and cells may hold what SQLite cannot store


def _check_lengths(database: sqlite3.Connection, said: Rows, meant: Rows) -> None:
    one, other = _count(database, "SELECT * FROM predicted"), _count(database, "SELECT * FROM meant")
    if one != other:
        raise TableError(
            said.name,
            f"has {one:,} rows, {meant.name} has {other:,}, and neither names its clips",
            f"give both a column that does ({', '.join(ID_COLUMNS[:3])}, ...)",
        )


def _check_ids(database: sqlite3.Connection, said: Rows, meant: Rows) -> None:
    database.execute("CREATE INDEX predicted_ids ON predicted (id)")
    database.execute("CREATE INDEX meant_ids ON meant (id)")
    twice = "SELECT id, min(place) AS place FROM predicted GROUP BY id HAVING count(*) > 1"
    _refuse(database, twice, said.name, "more than one row", "keep one prediction a clip")
    for table, other, item, what, remedy in (
        ("predicted", "meant", said.name, f"no reference in {meant.name}", "leave them out, or add references"),
        (
            *("meant", "predicted", meant.name, f"no prediction in {said.name}"),
            "give the references of the clips that were captioned, and an empty text where a system gave no caption",
        ),
    ):
        alone = f"SELECT id, min(place) AS place FROM {table} WHERE id NOT IN (SELECT id FROM {other}) GROUP BY id"  # noqa: S608
        _refuse(database, alone, item, what, remedy)


def _refuse(database: sqlite3.Connection, query: str, item: str, what: str, remedy: str) -> None:
    count = _count(database, query)
    if count:
        first = [repr(row[0]) for row in database.execute(f"{query} ORDER BY place LIMIT {EXAMPLES}")]
        more = ", ..." if count > len(first) else ""
        raise TableError(
            item, f"{count:,} {'clip has' if count == 1 else 'clips have'} {what} ({', '.join(first)}{more})", remedy
        )


def _count(database: sqlite3.Connection, query: str) -> int:
    return int(database.execute(f"SELECT count(*) FROM ({query})").fetchone()[0])  # noqa: S608 - queries of this file


def _pairs(database: sqlite3.Connection, *, named: bool) -> Iterator[Pair]:
    """The joined rows. A clip's reference rows follow each other in the order of their file."""
    key = "id" if named else "place"
    query = f"""
        SELECT predicted.place, predicted.id, text, predicted.tags, predicted.extra, texts, meant.tags, meant.extra
        FROM predicted JOIN meant ON predicted.{key} = meant.{key} ORDER BY predicted.place, meant.place
    """  # noqa: S608 - `key` is one of the two above
    with closing(database):
        last, pair = None, None
        for place, name, text, tags, extra, texts, their_tags, their_extra in database.execute(query):
            read = [json.loads(cell) if cell else () for cell in (tags, their_tags)]
            if pair is not None and place == last:
                pair = Pair(
                    pair.prediction,
                    (*pair.references, *json.loads(texts)),
                    tuple(dict.fromkeys((*pair.tags, *read[1]))),
                    pair.id,
                    pair.extra,
                )
                continue
            if pair is not None:
                yield pair
            last = place
            cells = {**json.loads(extra or "{}"), **json.loads(their_extra or "{}")}
            pair = Pair(text, tuple(json.loads(texts)), tuple(dict.fromkeys((*read[1], *read[0]))), name, cells)
        if pair is not None:
            yield pair
