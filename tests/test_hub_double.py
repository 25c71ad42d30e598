"""The Hub double answers the real client as the Hub does, for the kinds of repository that the project publishes."""

from __future__ import annotations

import json
import subprocess
import sys

from hub_double import HubDouble

CLIENT = """
import io, json, sys
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

def refusal(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HfHubHTTPError) as error:
        return type(error).__name__
    return "none"

api, found = HfApi(), {}
found["user"] = api.whoami()["name"]
api.create_repo("org/model")
found["again"] = refusal(api.create_repo, "org/model")
api.upload_file(path_or_fileobj=b"weights" * 1000, path_in_repo="model.safetensors", repo_id="org/model")
first = api.model_info("org/model").sha
api.create_tag("org/model", tag="v1")
api.upload_file(path_or_fileobj=b"more", path_in_repo="code/a.py", repo_id="org/model")
found["stale"] = refusal(
    api.upload_file, path_or_fileobj=b"x", path_in_repo="b", repo_id="org/model", parent_commit=first
)
found["tag"] = open(hf_hub_download("org/model", "model.safetensors", revision="v1"), "rb").read().decode()[:14]
found["files"] = api.list_repo_files("org/model")
found["tree"] = [entry.path for entry in api.list_repo_tree("org/model")]
found["commits"] = len(api.list_repo_commits("org/model"))
found["no file"] = refusal(hf_hub_download, "org/model", "none.txt")
found["no tag"] = refusal(hf_hub_download, "org/model", "code/a.py", revision="v9")
with HfFileSystem().open("org/model/model.safetensors", "rb") as remote:
    remote.seek(6993)
    found["range"] = remote.read().decode()
pull = api.upload_file(
    path_or_fileobj=b"proposed", path_in_repo="code/b.py", repo_id="org/model", create_pr=True
)
found["pull request"] = [api.list_repo_files("org/model", revision="refs/pr/1")[-2:], len(found["files"])]
api.create_repo("org/demo", repo_type="space", space_sdk="gradio", private=True)
found["space"] = api.space_info("org/demo").sdk
found["signed out"] = refusal(HfApi(token=False).space_info, "org/demo")
folder = snapshot_download("org/model", allow_patterns="code/*")
found["snapshot"] = open(folder + "/code/a.py").read()
api.delete_file("code/a.py", "org/model")
found["deleted"] = refusal(hf_hub_download, "org/model", "code/a.py", force_download=True)
api.delete_repo("org/model")
found["gone"] = refusal(api.model_info, "org/model")
print(json.dumps(found))
"""


def test_the_real_client_finds_its_way_around(tmp_path):
    with HubDouble() as hub:
        client = subprocess.run(
            [sys.executable, "-c", CLIENT], env=hub.environment(tmp_path), capture_output=True, text=True, timeout=120
        )
        assert client.returncode == 0, client.stderr[-3000:]
        assert [(kind, repo_id) for kind, repo_id in hub.state.repositories] == [("space", "org/demo")]

    assert json.loads(client.stdout.splitlines()[-1]) == {
        "user": "tester",
        "again": "HfHubHTTPError",
        "stale": "HfHubHTTPError",
        "tag": "weightsweights",
        "files": [".gitattributes", "code/a.py", "model.safetensors"],
        "tree": [".gitattributes", "code", "model.safetensors"],
        "commits": 3,
        "no file": "RemoteEntryNotFoundError",
        "no tag": "RevisionNotFoundError",
        "range": "weights",
        "pull request": [["code/b.py", "model.safetensors"], 3],
        "space": "gradio",
        "signed out": "RepositoryNotFoundError",
        "snapshot": "more",
        "deleted": "RemoteEntryNotFoundError",
        "gone": "RepositoryNotFoundError",
    }
