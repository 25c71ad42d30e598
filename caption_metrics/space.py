"""The `evaluate` module as a Space that works alone, for people who have `evaluate` and none of this package.

`evaluate.load("org/caption_metrics")` fetches one file and those that it imports by relative names: not what those
import, and no data. So the Space gets a copy of every module that the metric takes, with its imports made relative and
its data written into Python; the first file names them all. Everything is made from the package's own files.
"""

from __future__ import annotations

import ast
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lpmc_errors import LpmcError, MissingExtraError, UsageError
from lpmc_files import write_json, write_text
from lpmc_hub import hub_faults_named

PACKAGE = Path(__file__).parent
METRIC = "caption_metrics"  # the module that `evaluate` runs
PAGE, APP = "space_page", "app.py"  # the page's module, and what a Space calls it
DATA = "packaged_files"  # the module that holds the data of the others; also what a Space of ours is known by
GRADIO = "6.31.0"  # the release that the page is tested with
PYTHON = "3.12"
DISTRIBUTION, EXTRA = "lp-musiccaps", "metrics"
_BESIDE = ("lpmc_errors", "lpmc_files")  # modules of the project that this package may import
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/([A-Za-z0-9_][\w-]*)")


@dataclass(frozen=True)
class PublishedMetric:
    """Where the metric lies: `evaluate.load(repo_id, revision=revision)` gets this very state."""

    repo_id: str
    revision: str
    url: str
    files: tuple[str, ...]


def export_metric(
    directory: Path, *, name: str | None = None, repo_id: str | None = None, results: Mapping[str, Any] | None = None
) -> Path:
    """Write the Space into `directory` and return its main file, which `evaluate.load` takes as a path too.

    The main file is called `name`, by default as the directory: `evaluate` looks for `x/x.py` and `org/x` alike.
    `results` is a score card as `lpmc evaluate --json` prints it, to show as an example.
    Raises `UsageError` for a name that cannot be a module's, `MissingExtraError` where the package is not installed
    (its requirements are the Space's), `LpmcError` for a module that cannot be copied, and `DiskError`.
    """
    from hub_cards.render_space import read_metric, render_metric_card

    name = name or directory.resolve().name
    modules = _needed_modules()
    if not re.fullmatch(r"[A-Za-z0-9_][\w-]*", name) or name in {*modules, DATA, "app"}:
        raise UsageError(
            name, "cannot be the name of the metric", "use letters, digits, - and _, such as caption_metrics"
        )
    data: dict[str, str] = {}
    texts = {f"{module}.py": _standalone(path, data) for module, path in modules.items()}
    packages = _packages(modules)
    needed = requirements(packages)
    main_text = _standalone(PACKAGE / f"{METRIC}.py", data)
    texts[f"{name}.py"] = _naming_all(main_text, sorted({*modules, DATA}), packages)
    texts[f"{DATA}.py"] = _data_module(data)
    texts[APP] = _constant_set((PACKAGE / f"{PAGE}.py").read_text(encoding="utf-8"), "MODULE", f"{name}.py")
    texts["requirements.txt"] = "".join(f"{line}\n" for line in needed)
    for file, text in texts.items():
        write_text(directory / file, text)
    if results is not None:
        write_json(directory / "evaluation.json", dict(results))
    main = directory / f"{name}.py"
    card = render_metric_card(
        read_metric(main),
        repo_id=repo_id,
        results=results,
        sdk_version=GRADIO,
        python_version=PYTHON,
        requirements=needed,
    )
    write_text(directory / "README.md", card)
    return main


def publish_metric(
    repo_id: str, *, private: bool = False, token: str | None = None, results: Mapping[str, Any] | None = None
) -> PublishedMetric:
    """Put the metric into the Space `org/name`, in one commit, so that `evaluate.load("org/name")` works.

    A Space that is not there is made; one that an earlier call filled is brought up to date, modules that went are
    deleted. Raises `UsageError` for a name that no Space can have, and `LpmcError` for a Space of somebody else's
    making, a card with a problem, a missing token, and a Hub that refuses or cannot be reached.
    """
    match = _REPO_ID.fullmatch(repo_id)
    if match is None or "--" in repo_id or ".." in repo_id or len(repo_id) > 96:
        raise UsageError(
            f"--repo {repo_id}", "is no name for the metric's Space", "write USER/NAME with letters, digits, - and _"
        )
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    from hub_cards import lint_metric

    with tempfile.TemporaryDirectory() as folder, hub_faults_named(repo_id, token):
        api = HfApi(token=token)
        api.whoami()  # raises for a wrong token, with which every repository looks as if it were not there
        try:
            there = set(api.list_repo_files(repo_id, repo_type="space"))
            exists = True
        except RepositoryNotFoundError:
            there, exists = set(), False
        foreign = sorted(there - {".gitattributes", "README.md"})
        if foreign and f"{DATA}.py" not in there:
            raise LpmcError(
                repo_id, f"is a Space of another kind: it holds {foreign[0]}", "choose another name, or empty it first"
            )
        directory = Path(folder)
        export_metric(directory, name=match[1], repo_id=repo_id, results=results)
        problems = lint_metric(directory)
        if problems:
            raise LpmcError(problems[0].path, problems[0].message, "correct it, then publish again")
        if not exists:
            api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private)
        files = sorted(path.name for path in directory.iterdir())
        gone = sorted(name for name in there if name.endswith(".py") and name not in files)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, directory / name) for name in files),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message="Publish the metric",
            repo_type="space",
        )
    return PublishedMetric(repo_id, commit.oid, f"{api.endpoint}/spaces/{repo_id}", tuple(files))


# --- the modules ----------------------------------------------------------------------------------------------------


def _needed_modules() -> dict[str, Path]:
    """Every module that the metric takes, itself left out: name -> file. Also those that are imported when needed."""
    found: dict[str, Path] = {}
    waiting = [METRIC]
    while waiting:
        for module in _imported(_module_file(waiting.pop())):
            if module not in found and module != METRIC:
                found[module] = _module_file(module)
                waiting.append(module)
    return dict(sorted(found.items()))


def _module_file(module: str) -> Path:
    return (PACKAGE.parent if module in _BESIDE else PACKAGE) / f"{module}.py"


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            yield from _modules_of(path, node)
        elif isinstance(node, ast.Import) and any(
            alias.name.split(".")[0] in (METRIC, *_BESIDE) for alias in node.names
        ):
            raise LpmcError(f"{path}, line {node.lineno}", "cannot be made relative", "write `from ... import ...`")


def _modules_of(path: Path, node: ast.ImportFrom) -> list[str]:
    """The modules of this project that a `from ... import` takes."""
    source = node.module or ""
    if source in _BESIDE:
        return [source]
    if source.startswith(f"{METRIC}."):
        return [source.removeprefix(f"{METRIC}.")]
    if source != METRIC:
        return []
    names = [alias.name for alias in node.names]
    strange = next((name for name in names if not _module_file(name).is_file()), None)
    if strange is not None:
        raise LpmcError(f"{path}, line {node.lineno}", f"takes {strange} from the package", "take it from its module")
    return names


def _standalone(path: Path, data: dict[str, str]) -> str:
    """The source of a module with relative imports, and with `data` in place of the files beside it.

    What it reads is added to `data`: file name -> text. Raises `LpmcError` for another use of `__file__`.
    """
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits: list[tuple[int, int, bytes]] = []
    tree = ast.parse(source)
    last_import = 0
    read_here: set[int] = set()  # places of `__file__` that were seen to
    for node in ast.walk(tree):
        if not hasattr(node, "lineno"):
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and _modules_of(path, node):
            text = re.sub(rb"\s*# From: .*", b"", source[start : starts[node.end_lineno or 0]].rstrip(b"\r\n"))
            relative = re.sub(rf"from\s+(?:{METRIC}\b\.?|(?={'|'.join(_BESIDE)}))".encode(), b"from .", text, count=1)
            edits.append((start, starts[node.end_lineno or 0] - 1, relative))
        if isinstance(node, ast.Call) and (file := _file_beside(node)):
            data[file] = (PACKAGE / file).read_text(encoding="utf-8")
            edits.append((start, end, f'packaged_file("{file}")'.encode()))
            read_here |= {id(part) for part in ast.walk(node)}
        if isinstance(node, ast.Name) and node.id == "__file__" and id(node) not in read_here:
            raise LpmcError(
                f"{path}, line {node.lineno}", "reads beside itself", 'write Path(__file__).with_name("...")'
            )
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            last_import = starts[statement.end_lineno or 0]
    if read_here:
        edits.append((last_import, last_import, f"from .{DATA} import packaged_file\n".encode()))
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return source.decode("utf-8")


def _file_beside(call: ast.Call) -> str | None:
    """The name in `Path(__file__).with_name("...")`."""
    if ast.unparse(call.func) == "Path(__file__).with_name" and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return None


def _naming_all(main: str, modules: list[str], packages: Mapping[str, str]) -> str:
    """The main file with an import of every module, since `evaluate` copies those that it names and no others."""
    tree = ast.parse(main)
    named = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.level}
    end = max(node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    lines = main.splitlines(keepends=True)
    added = [  # of the packages, evaluate says which ones to install, by their names on PyPI
        *(f"import {name}  # From: {listed}\n" for name, listed in packages.items() if f"import {name}\n" not in lines),
        "\n# evaluate copies the modules that are named here, and looks no further.\n",
        *(f"from .{module} import __name__ as _{module}\n" for module in modules if module not in named),
    ]
    return "".join([*lines[:end], *added, *lines[end:]])


def _data_module(data: Mapping[str, str]) -> str:
    lines = [
        '"""The files that the modules read, as text: `evaluate` copies modules and nothing else."""\n\n',
        "from __future__ import annotations\n\n\n",
        "class PackagedFile:\n",
        '    """A file of the package, read as a `Path` is."""\n\n',
        "    def __init__(self, name: str) -> None:\n        self.name = name\n\n",
        '    def read_text(self, encoding: str = "utf-8") -> str:\n        return _TEXTS[self.name]\n\n',
        "    def read_bytes(self) -> bytes:\n        return _TEXTS[self.name].encode()\n\n\n",
        "def packaged_file(name: str) -> PackagedFile:\n    return PackagedFile(name)\n\n\n_TEXTS = {\n",
    ]
    for name, text in sorted(data.items()):
        lines.append(f"    {name!r}: (\n")
        lines += [f"        {line!r}\n" for line in text.splitlines(keepends=True)]
        lines.append("    ),\n")
    return "".join([*lines, "}\n"])


def _constant_set(source: str, name: str, value: str) -> str:
    changed, count = re.subn(rf'^{name} = ".*"$', f'{name} = "{value}"', source, flags=re.MULTILINE)
    if count != 1:
        raise LpmcError(f"{PAGE}.py", f"does not set {name} once", "set it in a line of its own")
    return changed


# --- what it needs --------------------------------------------------------------------------------------------------


def _packages(modules: Mapping[str, Path]) -> dict[str, str]:
    """The packages that the modules import when they are loaded: name in Python -> name on PyPI."""
    roots = set()
    for path in (PACKAGE / f"{METRIC}.py", *modules.values()):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add((node.module or "").split(".")[0])
    distributions = metadata.packages_distributions()
    outside = sorted(roots - set(sys.stdlib_module_names) - {METRIC, *_BESIDE})
    return {root: distributions.get(root, [root])[0] for root in outside}


def requirements(packages: Mapping[str, str] | None = None) -> list[str]:
    """The Space's requirements.txt: what the extra `metrics` of this package needs, and what is imported besides.

    `packages` are the names of what is imported, in Python and on PyPI; without them they are looked for.

    Raises `MissingExtraError` where the package itself is not installed, and `LpmcError` for an import that no
    requirement of the package covers.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(DISTRIBUTION, extra=EXTRA) from error
    base = {_normal(part.name): part for part in declared if part.marker is None}
    extra = {_normal(part.name): part for part in declared if part.marker and part.marker.evaluate({"extra": EXTRA})}
    for package, distribution in (packages or _packages(_needed_modules())).items():
        found = extra.get(_normal(distribution)) or base.get(_normal(distribution))
        if found is None:
            raise LpmcError(
                package, f"is imported by the metric and no requirement of {EXTRA}", "import it when needed"
            )
        extra[_normal(distribution)] = found
    return [f"{name}{extra[name].specifier}" for name in sorted(extra)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
