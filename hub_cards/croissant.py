"""The data set as a Croissant document (https://docs.mlcommons.org/croissant): rendered from facts, and checked.

A configuration becomes a set of files (a pattern relative to the document) and a set of records whose fields are the
columns. No file is hashed: what is described moves with the document, and hashing audio would cost a pass over all of
it. The Hub writes a document of its own about the files it has converted; this one opens the directory as it lies.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hub_cards.facts import ConfigFacts
from hub_cards.render import DATASET_TAGS, LICENCES_FILE, dataset_licences

CROISSANT_FILE = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
PARQUET = "application/x-parquet"  # the name that Croissant readers know
CITATION = (
    "Doh, S., Choi, K., Lee, J., Nam, J. (2023). LP-MusicCaps: LLM-Based Pseudo Music Captioning. "
    "Proceedings of the 24th International Society for Music Information Retrieval Conference (ISMIR)."
)

_TYPES = {
    "string": "sc:Text",
    "large_string": "sc:Text",
    "bool": "sc:Boolean",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float32": "cr:Float32",
    "float64": "cr:Float64",
}

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def render_croissant(configs: Sequence[ConfigFacts], *, name: str = "LP-MusicCaps") -> str:
    """The croissant.json of a data set directory: the same facts give the same text.

    Fields are typed by the columns' features; nested columns become sub-fields. A column of a kind that Croissant has
    no type for is left out.
    """
    licences, complete = dataset_licences(configs)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": "Captions of music made from the tags of each track, in the columns of LP-MusicCaps.",
        "conformsTo": CONFORMS_TO,
        "license": licences if complete and licences else LICENCES_FILE,
        "citeAs": CITATION,
        "keywords": DATASET_TAGS,
        "inLanguage": "en",
        "distribution": [_file_set(config) for config in configs],
        "recordSet": [part for config in configs for part in (_splits(config), _records(config))],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _files_id(config: str) -> str:
    return f"{config}-files"


def _file_set(config: ConfigFacts) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": _files_id(config.name),
        "name": _files_id(config.name),
        "description": f"The Parquet files of the configuration {config.name}.",
        "encodingFormat": PARQUET,
        "includes": [f"{config.name}/{split.name}-*.parquet" for split in config.splits],
    }


def _splits(config: ConfigFacts) -> dict[str, Any]:
    of = f"{config.name}-splits"
    return {
        "@type": "cr:RecordSet",
        "@id": of,
        "name": of,
        "dataType": "cr:Split",
        "key": {"@id": f"{of}/name"},
        "field": [{"@type": "cr:Field", "@id": f"{of}/name", "name": "name", "dataType": "sc:Text"}],
        "data": [{f"{of}/name": split.name} for split in config.splits],
    }


def _records(config: ConfigFacts) -> dict[str, Any]:
    names = "|".join(re.escape(split.name) for split in config.splits)
    split = {
        "@type": "cr:Field",
        "@id": f"{config.name}/split",
        "name": "split",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": _files_id(config.name)},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": f"{re.escape(config.name)}/({names})-.+parquet$"},
        },
        "references": {"field": {"@id": f"{config.name}-splits/name"}},
    }
    columns = (_field(config.name, name, feature) for name, feature in config.features.items())
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "field": [split, *(column for column in columns if column is not None)],
    }


def _field(config: str, column: str, feature: Any) -> dict[str, Any] | None:
    source = {"fileSet": {"@id": _files_id(config)}, "extract": {"column": column}}
    return _typed(f"{config}/{column}", column, feature, source, ())


def _typed(place: str, name: str, feature: Any, source: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The field of a feature as `Features.to_dict()` has it; None where Croissant has no type for it."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": name}
    feature, many = _unwrapped(feature)
    if many and path and "_type" not in feature:
        return None  # objects in a list in an object: no path of Croissant's leads to all of them
    if many:
        field |= {"isArray": True, "arrayShape": "-1"}
    if feature.get("_type") == "Audio":
        path = (*path, "bytes")
        field["dataType"] = "sc:AudioObject"
    elif feature.get("_type") == "Value":
        if feature.get("dtype") not in _TYPES:
            return None
        field["dataType"] = _TYPES[feature["dtype"]]
    elif "_type" not in feature:
        parts = (_typed(f"{place}/{key}", key, part, source, (*path, key)) for key, part in feature.items())
        return {**field, "subField": [part for part in parts if part is not None]}
    else:
        return None
    return {**field, "source": {**source, **({"transform": {"jsonPath": ".".join(path)}} if path else {})}}


def _unwrapped(feature: Any) -> tuple[dict[str, Any], bool]:
    if isinstance(feature, list):
        return feature[0], True
    if isinstance(feature, dict) and feature.get("_type") in ("List", "LargeList", "Sequence"):
        return feature["feature"], True
    return feature, False


def lint_croissant(directory: Path, configs: Sequence[ConfigFacts]) -> list[str]:
    """Every problem of the croissant.json of a data set directory whose facts are `configs`.

    Ids, references, file patterns and columns are checked against the document and the files; then mlcroissant reads
    it, where that is installed; then it must be what the facts give.
    """
    try:
        document = json.loads((directory / CROISSANT_FILE).read_text(encoding="utf-8"))
    except ValueError:
        return []  # named already, with every other broken JSON file
    if not isinstance(document, dict):
        return ["holds no object"]
    problems = [*_lint_ids(document), *_lint_files(directory, document), *_lint_columns(document, configs)]
    problems = problems or _validated(directory / CROISSANT_FILE)
    rendered = json.loads(render_croissant(configs, name=str(document.get("name"))))
    if not problems and document != rendered:
        changed = sorted(name for name in {*document, *rendered} if document.get(name) != rendered.get(name))
        problems.append(f"{', '.join(changed)} differ from what the files give; run `lpmc build` again")
    return problems


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _lint_ids(document: Mapping[str, Any]) -> Iterator[str]:
    body = [part for name, part in document.items() if name != "@context"]
    named = Counter(part["@id"] for part in _objects(body) if "@id" in part and "@type" in part)
    for name, count in sorted(named.items()):
        if count > 1:
            yield f"{count} parts have the @id {name!r}"
    for part in _objects(body):
        if "@id" in part and "@type" not in part and part["@id"] not in named:
            yield f"refers to {part['@id']!r}, which is no part of it"


def _lint_files(directory: Path, document: Mapping[str, Any]) -> Iterator[str]:
    shards = [path.relative_to(directory).as_posix() for path in directory.glob("*/*.parquet")]
    shards = sorted(path for path in shards if not path.startswith("."))
    patterns = [
        pattern
        for part in _objects(document.get("distribution"))
        for pattern in ([part["includes"]] if isinstance(part.get("includes"), str) else part.get("includes") or [])
    ]
    for pattern in patterns:
        if not any(fnmatch(path, pattern) for path in shards):
            yield f"no file matches {pattern!r}"
    for path in shards:
        if not any(fnmatch(path, pattern) for pattern in patterns):
            yield f"describes no file set that {path} belongs to"


def _lint_columns(document: Mapping[str, Any], configs: Sequence[ConfigFacts]) -> Iterator[str]:
    columns = {_files_id(config.name): config.features for config in configs}
    for field in _objects(document.get("recordSet")):
        source = field.get("source")
        if not isinstance(source, dict):
            continue
        files = source.get("fileSet", {}).get("@id")
        column = source.get("extract", {}).get("column")
        if column is not None and files in columns and column not in columns[files]:
            yield f"{field.get('@id')!r} reads the column {column!r}, which the files of {files!r} do not have"


def _validated(path: Path) -> list[str]:
    """What mlcroissant finds wrong with a document; nothing where it is not installed. It asks no network."""
    try:
        from mlcroissant import Dataset, ValidationError
    except ImportError:
        return []
    told = logging.getLogger("absl")
    level = told.level
    told.setLevel(logging.ERROR)  # it recommends a date and a version, which would make every build differ
    try:
        Dataset(jsonld=str(path))
    except (ValidationError, ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        return [f"mlcroissant refuses it: {' '.join(str(error).split())}"]
    finally:
        told.setLevel(level)
    return []
