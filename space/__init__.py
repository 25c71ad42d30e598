"""The demo page: a Gradio app that is also what a Hugging Face Space runs.

`lpmc demo --model DIR_OR_ID` runs it here; `space_files()` lists what a Space repository holds. Importing this package
loads neither gradio nor torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["space_files"]

_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE.parent
_OWN = ("README.md", "requirements.txt")  # of a Space's repository, beside app.py
_DATA = frozenset({".yaml", ".j2", ".json", ".txt"})  # what modules read that lies beside them
_MODEL = Path("modeling_lpmc", "checkpoints", "lpmc_mini")  # the page's default
_LEFT_OUT = frozenset({".png"})  # the pictures of its card


def space_files() -> dict[str, Path]:
    """Files of a Space repository: the name in the repository -> the file here.

    The Space needs no package of this project: the modules that the app imports, wherever in them, lie beside it, with
    the data that lies beside those, and the model that ships.
    """
    files = {name: _HERE / name for name in ("app.py", *_OWN)}
    folders: set[Path] = set()
    for module in _modules(_HERE / "app.py"):
        files[module.relative_to(_PROJECT).as_posix()] = module
        if module.parent != _PROJECT:
            folders.add(module.parent)
    for folder in folders - {_HERE}:
        found = [path for path in folder.iterdir() if path.suffix in _DATA and path.is_file()]
        files |= {path.relative_to(_PROJECT).as_posix(): path for path in found}
    for path in (_PROJECT / _MODEL).iterdir():
        if path.suffix not in _LEFT_OUT and path.is_file():
            files[path.relative_to(_PROJECT).as_posix()] = path
    return dict(sorted(files.items()))


def _modules(start: Path) -> set[Path]:
    """The project's modules that `start` imports, directly or through others, in functions too; without `start`."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        for module in _imports(waiting.pop()):
            for path in (module, *_packages(module)):
                if path not in found and path != start:
                    found.add(path)
                    waiting.append(path)
    return found


def _imports(source: Path) -> Iterator[Path]:
    package = source.relative_to(_PROJECT).parent.parts
    for node in _run_nodes(ast.parse(source.read_text(encoding="utf-8"))):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            names = [base, *((*base, alias.name) for alias in node.names)]
        for name in names:
            path = _PROJECT.joinpath(*name)
            if name and path.with_suffix(".py").is_file():
                yield path.with_suffix(".py")
            elif name and (path / "__init__.py").is_file():
                yield path / "__init__.py"


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may run: not those that only a type checker reads."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield from _run_nodes(node)


def _packages(module: Path) -> Iterator[Path]:
    for folder in module.parents:
        if folder == _PROJECT:
            return
        yield folder / "__init__.py"
