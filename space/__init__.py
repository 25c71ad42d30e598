"""The demo page: a Gradio app that is also what a Hugging Face Space runs.

`lpmc demo --model DIR_OR_ID` runs it here; `space_files()` lists what a Space repository holds. Importing this package
loads neither gradio nor torch.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["space_files"]

_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE.parent
_MODULES = (  # of modeling_lpmc; what captioning needs, without training, conversion and export
    "__init__",
    "audio",
    "captioner",
    "configuration_lpmc",
    "feature_extraction_lpmc",
    "modeling_lpmc",
    "processing_lpmc",
)


def space_files() -> dict[str, Path]:
    """Files of a Space repository: the name in the repository -> the file here.

    The Space needs no package of this project: the modules that the app imports lie beside it.
    """
    files = {name: _HERE / name for name in ("app.py", "README.md", "requirements.txt")}
    modules = [_PROJECT / name for name in ("lpmc_errors.py", *(f"modeling_lpmc/{name}.py" for name in _MODULES))]
    return files | {path.relative_to(_PROJECT).as_posix(): path for path in modules}
