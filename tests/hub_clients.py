"""Client processes for tests against the Hub double: Python code, pushes, and the command line, each on its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub_files import SIGNATURE
from hub_state import GUEST_TOKEN, TOKEN

TOKENS = (TOKEN, GUEST_TOKEN)

# Each line is a piece of code; what it leaves in `answer` comes back as a line.
LOOP = """
import json, sys
names = {}
for line in sys.stdin:
    exec(json.loads(line), names)
    print(json.dumps(names.pop("answer", None)), flush=True)
"""

# Constants of hub_upload can be set for a push, so that small data sets meet what takes gigabytes otherwise.
PUSH = """
import json
from dataclasses import asdict
from pathlib import Path
from dataset_builder import hub_upload
from dataset_builder.publish import plan_push, push_dataset
from lpmc_errors import LpmcError
usual = {name: value for name, value in vars(hub_upload).items() if name.isupper()}
def push(directory, repo_id, limits, plan=False, **options):
    assert limits.keys() <= usual.keys(), limits
    vars(hub_upload).update(usual | limits)
    try:
        return asdict((plan_push if plan else push_dataset)(Path(directory), repo_id, **options))
    except LpmcError as error:
        return f"{type(error).__name__}({error.exit_code}): {error}"
"""


class Client:
    """A process with a Python of its own that runs one piece of code after the other, as its imports take seconds."""

    secrets = TOKENS

    def __init__(
        self,
        environment: Mapping[str, str],
        setup: str = "",
        python: str | Path = sys.executable,
        options: Sequence[str] = (),
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [str(python), *options, "-c", LOOP],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.run(setup)

    def run(self, code: str) -> Any:
        """Run `code` and return what it leaves in `answer`. A fault of the code, or a token in the output, fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self._said.seek(0)
        said = self._said.read()
        check_output(answer + said, self.secrets)
        assert answer, said[-3000:]
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
        self._said.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


class Pusher(Client):
    """A process that pushes."""

    secrets = (*TOKENS, SIGNATURE)

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment, PUSH)

    def push(self, directory: Path, repo_id: str, *, limits: Mapping[str, int] | None = None, **options: Any) -> Any:
        """The report of a push as a dictionary, or the text of the error that ended it."""
        return self.run(f"answer = push({str(directory)!r}, {repo_id!r}, {dict(limits or {})!r}, **{options!r})")


def command(*arguments: str | Path, **limits: int) -> list[str]:
    """The words of `lpmc ...` as a process with `limits`, for `subprocess`."""
    setting = "".join(f"hub_upload.{name} = {value}; " for name, value in limits.items())
    code = f"from dataset_builder import hub_upload; {setting}import lpmc; lpmc.main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def check_output(text: str, secrets: tuple[str, ...] = (*TOKENS, SIGNATURE)) -> None:
    """Nothing that opens anything may be printed: no token, and by us no signature of an address either."""
    for secret in secrets:
        assert secret not in text, f"a secret was printed: {text[-2000:]}"
