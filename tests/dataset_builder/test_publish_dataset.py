"""Publishing through the real clients to a Hub on this machine, and what is refused on the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus
from hub_clients import Pusher, command
from hub_double import HubDouble

from dataset_builder import build
from dataset_builder.build import build_dataset
from dataset_builder.publish import published_files, push_dataset
from lpmc_errors import LpmcError, UsageError

REPO = "org/lp-musiccaps"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    return small_corpus.write_corpus(tmp_path_factory.mktemp("corpus"), small_corpus.tracks(8))


@pytest.fixture
def dataset(corpus: small_corpus.Corpus, tmp_path: Path) -> Path:
    output = tmp_path / "lp-musiccaps"
    build_dataset(corpus.captions, corpus.tracks, config="text", output=output)
    build_dataset(corpus.captions, corpus.tracks, config="with-audio", output=output, audio_root=corpus.audio)
    return output


def test_what_belongs_to_the_data_set_is_sent_and_nothing_else(hub, pusher, dataset):
    (dataset / "notes.txt").write_text("not for the public")
    (dataset / "text/.train.tmp").write_text("half a file")
    (dataset / "text/train-00001-of-00002.parquet.bak").write_text("an old one")

    done = pusher.push(dataset, REPO)

    assert done["url"] == f"{hub.url}/datasets/{REPO}"
    assert done["revision"] == hub.repository("dataset", REPO).branches["main"]
    splits = [f"{split}-00000-of-00001.parquet" for split in ("test", "train", "valid")]
    files = hub.files("dataset", REPO)
    assert sorted(files.keys() - {"croissant.json"}) == [
        *(".gitattributes", "LICENSE.md", "README.md"),
        *(f"{config}/{name}" for config in ("text", "with-audio") for name in ["build.json", "pipeline.json", *splits]),
    ]
    assert files["text/train-00000-of-00001.parquet"] == (dataset / "text/train-00000-of-00001.parquet").read_bytes()


def test_a_second_push_takes_old_shards_away_and_never_hides_a_configuration(hub, pusher, corpus, dataset, tmp_path):
    other = tmp_path / "other"
    build_dataset(corpus.captions, corpus.tracks, config="another", output=other)
    pusher.push(dataset, REPO)
    repository = hub.repository("dataset", REPO)
    files = dict(repository.commits[repository.branches["main"]].files)
    for name in ("text/train-00001-of-00002.parquet", "notes.md", "drafts/a.parquet"):
        files[name] = hub.state.store(b"as somebody left it", lfs=True)
    repository.commit("main", files, "as a longer table and a colleague would have left it")

    done = pusher.push(dataset, REPO)
    refused = pusher.push(other, REPO)
    not_private = pusher.push(other, REPO, private=True)

    files = hub.files("dataset", REPO)
    assert done["deleted"] == ["text/train-00001-of-00002.parquet"]
    assert "text/train-00000-of-00001.parquet" in files
    assert "text/train-00001-of-00002.parquet" not in files
    assert {"notes.md", "drafts/a.parquet"} <= files.keys(), "files that no push had sent were deleted"
    assert "holds the configuration(s) text, with-audio, which this directory lacks" in refused
    assert "exists and is public, but --private was asked for" in not_private
    assert not any(name.startswith("another/") for name in files)


@pytest.mark.parametrize("name", ["README.md", "LICENSE.md", "text/train-00000-of-00007.parquet"])
def test_what_somebody_else_has_there_is_neither_replaced_nor_deleted(hub, pusher, dataset, name):
    pusher.run(f"from huggingface_hub import HfApi; HfApi().create_repo({REPO!r}, repo_type='dataset')")
    repository = hub.repository("dataset", REPO)
    theirs = repository.commit("main", {name: hub.state.store(b"years of work")}, "theirs")
    for plan in (True, False):
        refused = pusher.push(dataset, REPO, plan=plan)
        assert refused.startswith(f"HubError(1): {REPO}: is somebody's own: it holds {name}, which no `lpmc push` sent")
    assert repository.branches["main"] == theirs

    repository.commit("main", {"notes.md": hub.state.store(b"an outline")}, "nothing in the way")
    pusher.push(dataset, REPO)
    assert hub.files("dataset", REPO)["notes.md"] == b"an outline"


def test_terms_that_the_hub_would_ask_nobody_to_agree_to_are_told(hub, pusher, dataset, tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(4, source="magnatagatune"))
    build_dataset(corpus.captions, corpus.tracks, config="mtt", output=tmp_path / "gated")

    words = command("push", tmp_path / "gated", "--repo", REPO, "--dry-run")
    told = subprocess.run(words, env=hub.environment(tmp_path / "home"), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    hint = "the card holds terms of MagnaTagATune; the Hub has readers agree to them only in a gated repository"
    assert f"{hint}: add --gated auto" in told.stderr

    def asks_nobody(directory: Path, **options: str | bool) -> bool:
        return pusher.run(f"answer = plan_push(Path({str(directory)!r}), {REPO!r}, **{options!r}).asks_nobody")

    assert asks_nobody(tmp_path / "gated")
    assert not asks_nobody(tmp_path / "gated", gated="auto")
    assert not asks_nobody(tmp_path / "gated", private=True)
    assert not asks_nobody(dataset)
    pusher.push(tmp_path / "gated", REPO, gated="manual")
    assert not asks_nobody(tmp_path / "gated")


def test_a_gate_is_set_before_anything_is_sent_and_stays(hub, pusher, dataset):
    pusher.push(dataset, REPO, gated="auto")
    asked = [path for method, path, _ in hub.state.log if method in ("PUT", "POST")]
    settings = next(number for number, path in enumerate(asked) if path.endswith("/settings"))
    assert settings < next(number for number, path in enumerate(asked) if "/preupload/" in path)
    assert hub.repository("dataset", REPO).gated == "auto"
    done = pusher.push(dataset, REPO)
    assert done["gated"] == hub.repository("dataset", REPO).gated == "auto"


def test_a_plan_compares_and_changes_nothing(hub, pusher, dataset):
    before = pusher.push(dataset, REPO, plan=True)
    assert (before["exists"], before["new"]) == (False, published_files(dataset))
    assert not hub.state.repositories
    pusher.push(dataset, REPO)
    pipeline = dataset / "text/pipeline.json"
    pipeline.write_text(pipeline.read_text() + " ")
    (dataset / "with-audio/pipeline.json").unlink()
    commits = len(hub.repository("dataset", REPO).commits)

    after = pusher.push(dataset, REPO, plan=True)

    assert (after["exists"], after["new"]) == (True, [])
    assert (after["changed"], after["deleted"]) == (["text/pipeline.json"], ["with-audio/pipeline.json"])
    assert len(hub.repository("dataset", REPO).commits) == commits


def test_a_card_that_the_hub_does_not_take_is_refused_before_anything_is_sent(hub, pusher, dataset):
    hub.fail("POST /api/validate-yaml", status=400)
    assert "README.md: the Hub does not take it" in pusher.push(dataset, REPO)
    assert not hub.state.repositories


def test_what_the_hub_refuses_becomes_one_line_without_the_token(hub, pusher, dataset, tmp_path):
    hub.state.read_only_tokens.add("hf_readonly")
    wrong = pusher.push(dataset, REPO, token="hf_wrongwrongwrong")
    read_only = pusher.push(dataset, REPO, token="hf_readonly")
    strangers = pusher.push(dataset, "strangers/lp-musiccaps")
    assert wrong.startswith(f"HubError(1): {REPO}: the Hub does not know the token, or none was given (401)")
    assert "hf auth login" in wrong
    assert read_only.startswith(f"HubError(1): {REPO}: your token may not write there (403)")
    assert strangers.startswith("HubError(1): strangers/lp-musiccaps: your token may not write there (403)")
    hub.fail("PUT /__lfs/", status=403)
    storage = pusher.push(dataset, REPO, limits={"MAX_TRIES": 1})
    assert storage.startswith("HubAwayError(75): the Hub: answers 403")  # an address that has expired
    for answer in (wrong, read_only, strangers, storage):
        assert "\n" not in answer
        assert "hf_w" not in answer
        assert "hf_r" not in answer

    assert "the token holds characters that no token has" in pusher.push(dataset, REPO, token="hf_é")

    nobody = Pusher(hub.environment(tmp_path / "home", token=None))
    signed_out = nobody.push(dataset, REPO)
    nobody.close()
    assert "(401)" in signed_out or "no token was found" in signed_out


def test_a_page_that_answers_for_the_hub_is_named(hub, pusher, dataset):
    hub.fail("GET /api/whoami", 1, status=429, headers={"Retry-After": "0"})
    hub.fail("GET /api/", status=200)  # with no JSON, as a page to sign in to a network
    answer = pusher.push(dataset, REPO)
    assert answer.startswith(f"HubError(1): {REPO}: what answered for the Hub is not the Hub")
    assert "\n" not in answer


def test_a_hub_that_cannot_be_reached_and_offline_mode_are_named(hub, pusher, dataset, tmp_path, monkeypatch):
    with HubDouble() as gone:
        environment = gone.environment(tmp_path / "home")
    lost = Pusher(environment)
    assert "HubError(1): org/lp-musiccaps: the Hub cannot be reached" in lost.push(dataset, REPO)
    lost.close()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LpmcError, match="HF_HUB_OFFLINE is set; unset it"):
        push_dataset(dataset, REPO)


@pytest.mark.parametrize(
    "repo_id", ["lp-musiccaps", "", "/", "org/", "org/a/b", "org/a b", "../org", "org/a.git", "org/a--b"]
)
def test_a_name_without_a_namespace_is_wrong_usage(dataset, repo_id):
    with pytest.raises(UsageError, match=r"namespace|is no name of a repository"):
        push_dataset(dataset, repo_id)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match="is no data set directory; make one with `lpmc build`"):
        push_dataset(tmp_path, "org/lp-musiccaps")
    with pytest.raises(UsageError, match="is no data set directory"):
        push_dataset(tmp_path / "nowhere", "org/lp-musiccaps")


def test_a_model_directory_is_refused_with_what_publishes_it(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        UsageError, match=f"is a model, and this publishes data sets; .*`hf upload NAME/MODEL {tmp_path}`"
    ):
        push_dataset(tmp_path, "org/lp-musiccaps")


def test_a_card_with_a_path_or_a_key_or_wrong_counts_is_not_published(dataset):
    card = dataset / "README.md"
    good = card.read_text()
    key = "hf_" + "a1" * 17  # put together here, so that this file holds no key
    for spoiled, problem in [
        (good + "\nMade in /home/someone/work/lp.\n", "absolute path '/home/someone/work/lp'"),
        (good + f"\nPushed with {key}.\n", "looks like an access key (hf_a1...)"),
        (good.replace("num_examples: 4", "num_examples: 5", 1), "num_examples is 5, the Parquet footers say 4"),
    ]:
        card.write_text(spoiled)
        with pytest.raises(LpmcError) as caught:
            push_dataset(dataset, "org/lp-musiccaps")
        assert problem in str(caught.value)
        assert key not in str(caught.value)
    card.write_text(good)
    pipeline = dataset / "text/pipeline.json"
    kept = pipeline.read_text()
    pipeline.write_text(kept[:-2])
    with pytest.raises(LpmcError, match=r"pipeline\.json: is no JSON"):
        push_dataset(dataset, "org/lp-musiccaps")
    pipeline.write_text(kept)
    making = dataset / "text/build.json"
    making.write_text(making.read_text().replace('"layout"', '"sk-' + "b2" * 12 + '": 1, "layout"'))
    with pytest.raises(LpmcError, match=r"build\.json: holds what looks like an access key"):
        push_dataset(dataset, "org/lp-musiccaps")


def test_audio_that_may_not_be_redistributed_stays_out_of_public_repositories(tmp_path):
    corpus = small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(2, source="musiccaps"))
    output = tmp_path / "out"
    build_dataset(corpus.captions, corpus.tracks, config="mc", output=output, audio_root=corpus.audio)

    with pytest.raises(LpmcError, match=r"carries the audio of 2 track\(s\) that may not be redistributed"):
        push_dataset(output, "org/lp-musiccaps")


def test_a_caption_with_a_path_stops_a_push_also_to_a_private_repository(hub, pusher, dataset):
    shard = dataset / "text/train-00000-of-00001.parquet"
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0]["caption_writing"] = "From /home/x."  # as long as needed for the counts of the card to stay right
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)
    build.write_card(dataset)
    for private in (False, True):
        answer = pusher.push(dataset, REPO, private=private)
        assert answer.startswith("PrivateContentError(1): ")
        assert "track 't0', column 'caption_writing': holds a path of a machine" in answer
    assert not hub.state.repositories


def test_only_files_of_the_data_set_are_listed_for_upload(dataset):
    (dataset / ".env").write_text("HF_TOKEN=...")
    (dataset / "text/secrets.json").write_text("{}")
    listed = published_files(dataset)
    assert "README.md" in listed
    assert "text/build.json" in listed
    assert len(listed) == 3 + 2 * 5
