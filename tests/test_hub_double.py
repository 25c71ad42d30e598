"""The Hub double answers the real client as the Hub does, for the kinds of repository that the project publishes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_clients import Client
from hub_double import HubDouble
from hub_files import SIGNATURE
from hub_state import GUEST, GUEST_TOKEN

SETUP = """
import io, json, sys, time
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
def refusal(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except Exception as error:
        response = getattr(error, "response", None)
        return type(error).__name__ + (f" {response.status_code}" if response is not None else "")
    return "none"
def add(path, content, repo="org/model", **named):
    return api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo, **named)
def read(path, **named):
    return open(hf_hub_download("org/model", path, **named), "rb").read().decode()
"""


@pytest.fixture(scope="module")
def client(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(double.environment(tmp_path_factory.mktemp("home")), SETUP) as process:
        yield process


@pytest.fixture(scope="module")
def guest(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    environment = double.environment(tmp_path_factory.mktemp("guest"), token=GUEST_TOKEN)
    with Client(environment, SETUP) as process:
        yield process


def test_the_real_client_finds_its_way_around(hub, client):
    found = client.run(
        """
found = {}
found["user"] = api.whoami()["name"]
api.create_repo("org/model")
found["again"] = refusal(api.create_repo, "org/model")
add("model.safetensors", b"weights" * 1000)
first = api.model_info("org/model").sha
api.create_tag("org/model", tag="v1")
add("code/a.py", b"more")
found["stale"] = refusal(add, "b", b"x", parent_commit=first)
found["tag"] = read("model.safetensors", revision="v1")[:14]
found["files"] = api.list_repo_files("org/model")
found["tree"] = [entry.path for entry in api.list_repo_tree("org/model")]
found["commits"] = len(api.list_repo_commits("org/model"))
found["no file"] = refusal(hf_hub_download, "org/model", "none.txt")
found["no tag"] = refusal(hf_hub_download, "org/model", "code/a.py", revision="v9")
with HfFileSystem().open("org/model/model.safetensors", "rb") as remote:
    remote.seek(6993)
    found["range"] = remote.read().decode()
api.create_repo("org/demo", repo_type="space", space_sdk="gradio", private=True)
found["space"] = api.space_info("org/demo").sdk
found["signed out"] = refusal(HfApi(token=False).space_info, "org/demo")
found["wrong token"] = refusal(HfApi(token="hf_wrong").model_info, "org/model")
folder = snapshot_download("org/model", allow_patterns="code/*")
found["snapshot"] = open(folder + "/code/a.py").read()
api.delete_file("code/a.py", "org/model")
found["deleted"] = refusal(hf_hub_download, "org/model", "code/a.py", force_download=True)
found["deleted twice"] = refusal(api.delete_file, "code/a.py", "org/model")
api.delete_repo("org/model")
found["gone"] = refusal(api.model_info, "org/model")
answer = found
"""
    )
    assert [(kind, repo_id) for kind, repo_id in hub.state.repositories] == [("space", "org/demo")]
    assert found == {
        "user": "tester",
        "again": "HfHubHTTPError 409",
        "stale": "HfHubHTTPError 412",
        "tag": "weightsweights",
        "files": [".gitattributes", "code/a.py", "model.safetensors"],
        "tree": [".gitattributes", "code", "model.safetensors"],
        "commits": 3,
        "no file": "RemoteEntryNotFoundError 404",
        "no tag": "RevisionNotFoundError 404",
        "range": "weights",
        "space": "gradio",
        "signed out": "RepositoryNotFoundError 401",
        "wrong token": "HfHubHTTPError 401",
        "snapshot": "more",
        "deleted": "RemoteEntryNotFoundError 404",
        "deleted twice": "RemoteEntryNotFoundError 404",
        "gone": "RepositoryNotFoundError 404",
    }


def test_content_that_a_repository_has_received_is_not_asked_for_again(hub, client):
    client.run("api.create_repo('org/model'); api.create_repo('org/other')")
    client.run("add('a.bin', b'rows' * 50); add('b.bin', b'rows' * 50)")
    assert [size for _, size in hub.state.uploads] == [200]
    client.run("add('a.bin', b'rows' * 50, repo='org/other')")
    assert hub.state.received == 400, "another repository's content is not this one's"
    never = "refusal(api.create_commit, 'org/model', [CommitOperationAdd('c.bin', b'new' * 9)], commit_message='c')"
    hub.fail("PUT /__lfs/", 1, cut_after=1)
    assert client.run(f"answer = {never}") == "none"
    assert hub.files("model", "org/model")["c.bin"] == b"new" * 9
    assert hub.state.received > 400 + 27, "the upload that was cut off counts as well"


def test_branches_and_shas_are_revisions_and_files_are_copied_between_them(hub, client):
    found = client.run(
        """
api.create_repo("org/model")
add("a.bin", b"old")
sha = api.model_info("org/model").sha
api.create_branch("org/model", branch="next")
add("a.bin", b"new", revision="next")
found = {"main": read("a.bin"), "next": read("a.bin", revision="next"), "sha": read("a.bin", revision=sha)}
head = api.create_commit(
    "org/model",
    [CommitOperationCopy("a.bin", "b.bin", src_revision="next"), CommitOperationDelete("a.bin")],
    commit_message="copy",
    parent_commit=sha,
).oid
found["copied"] = read("b.bin", revision=head)
found["branches"] = [branch.name for branch in api.list_repo_refs("org/model").branches]
found["again"] = refusal(api.create_branch, "org/model", branch="next")
api.delete_branch("org/model", branch="next")
found["main stays"] = refusal(api.delete_branch, "org/model", branch="main")
found["gone"] = refusal(api.delete_branch, "org/model", branch="next")
found["names"] = api.list_repo_files("org/model")
answer = found
"""
    )
    assert found == {
        "main": "old",
        "next": "new",
        "sha": "old",
        "copied": "new",
        "branches": ["main", "next"],
        "again": "HfHubHTTPError 409",
        "main stays": "HfHubHTTPError 403",
        "gone": "RevisionNotFoundError 404",
        "names": [".gitattributes", "b.bin"],
    }


def test_a_pull_request_is_a_branch_until_it_is_merged(hub, client, guest):
    client.run("api.create_repo('org/model'); add('a.txt', b'theirs')")
    found = guest.run(
        """
url = add("b.txt", b"proposed", create_pr=True).pr_url
pull = api.create_pull_request("org/model", title="another")
found = {"url": url[-14:], "number": pull.num, "status": pull.status, "reference": pull.git_reference}
found["files"] = api.list_repo_files("org/model", revision="refs/pr/1")
found["may not merge"] = refusal(api.merge_pull_request, "org/model", 1)
found["may not write"] = refusal(add, "d.txt", b"x")
answer = found
"""
    )
    assert found == {
        "url": "/discussions/1",
        "number": 2,
        "status": "draft",
        "reference": "refs/pr/2",
        "files": [".gitattributes", "a.txt", "b.txt"],
        "may not merge": "HfHubHTTPError 403",
        "may not write": "HfHubHTTPError 403",
    }
    assert client.run("answer = api.list_repo_files('org/model')") == [".gitattributes", "a.txt"]
    client.run("api.merge_pull_request('org/model', 1)")
    assert client.run("answer = api.list_repo_files('org/model')") == [".gitattributes", "a.txt", "b.txt"]
    refs = "[ref.ref for ref in api.list_repo_refs('org/model', include_pull_requests=True).pull_requests]"
    assert client.run(f"answer = {refs}") == ["refs/pr/1", "refs/pr/2"]


def test_a_gate_lets_in_who_was_accepted(hub, client, guest):
    client.run("api.create_repo('org/model'); add('w.bin', b'x'); add('a.txt', b'y'); add('b.txt', b'z')")
    client.run("api.update_repo_settings('org/model', gated='manual')")
    assert client.run("answer = read('w.bin')") == "x"
    assert guest.run("answer = [api.model_info('org/model').gated, len(api.list_repo_files('org/model'))]") == [
        "manual",
        4,
    ]
    assert guest.run("answer = [refusal(read, name) for name in ('w.bin', 'a.txt')]") == [
        "GatedRepoError 403",
        "GatedRepoError 403",
    ]
    assert guest.run("answer = refusal(read, 'a.txt', token=False)") == "GatedRepoError 401"
    hub.repository("model", "org/model").access[GUEST] = "pending"
    assert client.run("answer = [r.username for r in api.list_pending_access_requests('org/model')]") == [GUEST]
    client.run(f"api.accept_access_request('org/model', {GUEST!r})")
    assert guest.run("answer = [read('w.bin'), read('a.txt')]") == ["x", "y"]
    client.run(f"api.reject_access_request('org/model', {GUEST!r}, rejection_reason=None)")
    assert guest.run("answer = refusal(read, 'b.txt')") == "GatedRepoError 403"


def test_expand_and_blobs_choose_what_a_description_holds(hub, client):
    client.run(
        "api.create_repo('org/rows', repo_type='dataset'); add('a.parquet', b'rows', 'org/rows', repo_type='dataset')"
    )
    plain, detailed, chosen = client.run(
        """
infos = [api.dataset_info("org/rows"), api.dataset_info("org/rows", files_metadata=True)]
chosen = api.dataset_info("org/rows", expand=["sha", "gated"])
answer = [[[s.rfilename, s.size, s.lfs and s.lfs.sha256] for s in i.siblings] for i in infos]
answer += [[chosen.sha == infos[0].sha, chosen.gated, chosen.siblings, chosen.private]]
"""
    )
    assert plain == [[".gitattributes", None, None], ["a.parquet", None, None]]
    stored = hub.repository("dataset", "org/rows").history(hub.repository("dataset", "org/rows").branches["main"])[0]
    assert detailed[1] == ["a.parquet", 4, stored.files["a.parquet"].sha256]
    assert chosen == [True, False, None, None]


def test_long_listings_come_in_pages(hub, client):
    client.run("api.create_repo('org/model')")
    repository = hub.repository("model", "org/model")
    files = {f"f{number:04d}.txt": hub.state.store(b"%d" % number) for number in range(1_234)}
    for number in range(60):
        repository.commit("main", files, f"commit {number}")
    assert client.run("answer = [len(api.list_repo_files('org/model')), len(api.list_repo_commits('org/model'))]") == [
        1_234,
        61,
    ]
    asked = [path for _, path, _ in hub.state.log]
    assert sum("/tree/" in path for path in asked) == 2
    assert sum("/commits/" in path for path in asked) == 2


def test_faults_are_met_by_the_requests_they_are_made_for(hub, client):
    client.run("api.create_repo('org/model'); add('a.txt', b'x')")
    fault = hub.fail("GET /api/models/org/model$", 2, status=503)
    info = "refusal(api.model_info, 'org/model')"
    assert client.run(f"answer = [{info}, {info}, {info}]") == ["none", "HfHubHTTPError 503", "none"]
    assert fault.met == 3
    hub.fail("GET /api/models/org/model$", 1, delay=0.3)
    assert client.run(f"begun = time.time(); {info}; answer = time.time() - begun") >= 0.3
    hub.fail("POST .*/commit/", 1, lose_answer=True)
    assert client.run("answer = refusal(add, 'b.txt', b'y')") == "RemoteProtocolError"
    assert hub.files("model", "org/model")["b.txt"] == b"y", "the request was to be carried out"
    hub.state.faults.clear()
    hub.limit("GET /api/models/org/model$", 2, window=60)
    assert client.run(f"answer = [{info}, {info}, {info}]") == ["none", "none", "HfHubHTTPError 429"]


def test_content_lies_on_a_host_of_its_own_that_takes_no_token(hub, client):
    client.run("api.create_repo('org/model'); add('w.bin', b'weights')")
    assert client.run("answer = read('w.bin')") == "weights"
    content = [(method, path) for method, path, _ in hub.state.log if path.startswith("/__cdn/")]
    assert content[0][0] == "GET"
    sha = hub.state.uploads[0][0]
    taken = client.run(
        f"""
import urllib.request, urllib.error
def status(query, headers):
    request = urllib.request.Request({hub.state.storage_url!r} + "/__cdn/{sha}" + query, headers=headers)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
signed = "?Signature={SIGNATURE}"
answer = [status(signed, {{}}), status("", {{}}), status(signed, {{"Authorization": "Bearer x"}})]
"""
    )
    assert taken == [200, 403, 400]
