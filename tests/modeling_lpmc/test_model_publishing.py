"""A captioner on the Hub: pushed by its owner, by strangers and by trainers, loaded by name where nothing of it is."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_clients import Client
from hub_double import HubDouble
from hub_state import TOKEN
from small_captioner import small_model, small_processor

from hub_cards import lint_model
from modeling_lpmc import LpmcForConditionalGeneration, LpmcProcessor, save_for_hub
from modeling_lpmc.saving_lpmc import code_files, complete_directory

TESTS = Path(__file__).parents[1]
PROJECT = TESTS.parent

OWNER = f"""
import contextlib, sys
sys.path[:0] = [{str(TESTS)!r}, {str(PROJECT)!r}]
import torch
torch.set_num_threads(1)
from small_captioner import features, small_model, small_processor
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.training.data import CaptionCollator
from torch.utils.data import SequentialSampler
from modeling_lpmc.training.trainer import CaptionTrainer
examples = [{{"input_features": row.numpy(), "labels": [0, 20 + i, 30, 2]}} for i, row in enumerate(features(4))]
def small():
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer))
    model.generation_config.max_length = 12
    return model, processor
def settings(folder, repo_id, **more):
    return Seq2SeqTrainingArguments(
        output_dir=folder, hub_model_id=repo_id, push_to_hub=True, max_steps=2, save_steps=1, logging_steps=1,
        hub_strategy="every_save", hub_always_push=True, per_device_train_batch_size=2, report_to="none",
        use_cpu=True, disable_tqdm=True, **more)
def train_and_push(trainer, **details):
    with contextlib.redirect_stdout(sys.stderr):  # where the trainer prints its losses
        trainer.train()
        trainer.push_to_hub(**details)
"""

# A process that has transformers and nothing of this project; `-I -S` reads no .pth file and no PYTHONPATH.
STRANGER = f"""
import importlib.util, sys
sys.path.append({sysconfig.get_path("purelib")!r})
found = [name for name in ("modeling_lpmc", "lpmc_errors", "hub_cards") if importlib.util.find_spec(name)]
assert not found, found
import torch
torch.set_num_threads(1)
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSpeechSeq2Seq, AutoProcessor
from transformers import AutoTokenizer, pipeline
wave = torch.sin(torch.arange(24000) * 0.3).numpy() * 0.1
def heard(name, **options):
    options["trust_remote_code"] = True
    model = AutoModel.from_pretrained(name, **options).eval()
    processor = AutoProcessor.from_pretrained(name, **options)
    inputs = processor(audio=wave, sampling_rate=16000, return_tensors="pt")
    return processor.batch_decode(model.generate(**inputs))[0].strip()
def heard_in_all_ways(name):
    known = {{"trust_remote_code": True}}
    extractor = AutoFeatureExtractor.from_pretrained(name, **known)
    tokenizer = AutoTokenizer.from_pretrained(name, **known)
    other = AutoModelForSpeechSeq2Seq.from_pretrained(name, **known).eval()
    assert AutoConfig.from_pretrained(name, **known).vocab_size == len(tokenizer)
    tokens = other.generate(**extractor(wave, 16000, return_tensors="pt"))
    texts = {{heard(name), tokenizer.decode(tokens[0], skip_special_tokens=True).strip()}}
    return sorted(texts | {{pipeline("music-captioning", model=name, device=-1, **known)(wave)[0]["text"]}})
"""


class Bare(Client):
    """A stranger's process."""

    def __init__(self, hub: HubDouble, folder: Path) -> None:
        folder.mkdir()
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
        python.chmod(0o755)
        super().__init__(environment(hub, folder), STRANGER, python)


def environment(hub: HubDouble, home: Path) -> dict[str, str]:
    return {**hub.environment(home), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def owner(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(environment(double, tmp_path_factory.mktemp("owner")), OWNER) as process:
        yield process


@pytest.fixture(scope="module")
def saver(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stranger who loads and saves again."""
    with Bare(double, tmp_path_factory.mktemp("strangers") / "saver") as process:
        yield process


@pytest.fixture(scope="module")
def reader(double: HubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stranger who only loads."""
    with Bare(double, tmp_path_factory.mktemp("strangers") / "reader") as process:
        yield process


@pytest.fixture(scope="module")
def published(double: HubDouble, owner: Client) -> dict[str, bytes]:
    """The files of org/first, which `model.push_to_hub` alone has made."""
    owner.run(
        "model, model.processor = small()\n"
        "model.config.weights_licence = 'cc-by-nc-4.0'\n"
        "model.config.weights_licence_note = 'The captions are under the same licence.'\n"
        "model.push_to_hub('org/first')"
    )
    return double.files("model", "org/first")


def without_card(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != "README.md"}


def test_a_stranger_loads_by_name_what_push_to_hub_left(
    published: dict[str, bytes], reader: Client, tmp_path: Path
) -> None:
    captions = reader.run("answer = heard_in_all_ways('org/first')")
    assert len(captions) == 1, captions
    assert captions[0], "an empty caption would prove nothing"


def test_the_licences_of_code_and_weights_stand_apart(published: dict[str, bytes], tmp_path: Path) -> None:
    assert published["LICENSE"] == (PROJECT / "LICENSE").read_bytes()
    weights = published["LICENSE-WEIGHTS.md"].decode()
    assert "**cc-by-nc-4.0**" in weights
    assert "The captions are under the same licence." in weights
    assert "license: cc-by-nc-4.0\n" in published["README.md"].decode()
    for name, content in published.items():
        (tmp_path / name).write_bytes(content)
    assert lint_model(tmp_path) == []


@pytest.mark.parametrize(("licence", "lines"), [(None, "not-stated"), ("mine, all of it", "mine-all-of-it")])
def test_a_licence_that_the_hub_does_not_know_is_named_on_a_short_card(
    double: HubDouble, owner: Client, tmp_path: Path, licence: str | None, lines: str
) -> None:
    owner.run(
        f"model, model.processor = small()\nmodel.config.weights_licence = {licence!r}\n"
        "model.push_to_hub('org/unknown', tags=['jazz'])"
    )
    files = double.files("model", "org/unknown")
    card = files["README.md"].decode()
    if licence is None:  # the second push finds the card of the first and leaves it alone
        assert f"license: other\nlicense_name: {lines}\nlicense_link: LICENSE-WEIGHTS.md\n" in card
        assert "- jazz\n" in card
        assert "has not said" in files["LICENSE-WEIGHTS.md"].decode()
    else:
        assert "license_name: not-stated" in card
        assert f"**{licence}**" in files["LICENSE-WEIGHTS.md"].decode()


def test_a_demonstration_stays_one_on_a_short_card(double: HubDouble, owner: Client) -> None:
    owner.run("model, model.processor = small()\nmodel.config.demonstration = True\nmodel.push_to_hub('org/shown')")
    assert "# shown\n\n> **A demonstration.**" in double.files("model", "org/shown")["README.md"].decode()
    owner.run("model, model.processor = small()\nmodel.push_to_hub('org/meant')")
    assert "demonstration" not in double.files("model", "org/meant")["README.md"].decode()


def test_a_stranger_who_pushes_it_again_loses_nothing(
    double: HubDouble, published: dict[str, bytes], saver: Client, reader: Client, tmp_path: Path
) -> None:
    saver.run(
        f"model = AutoModel.from_pretrained('org/first', trust_remote_code=True)\n"
        f"model.push_to_hub('org/second')\n"
        f"model.save_pretrained({str(tmp_path / 'copy')!r}, push_to_hub=True, repo_id='org/third')\n"
    )
    for name in ("org/second", "org/third"):
        assert without_card(double.files("model", name)) == without_card(published), name
        assert "license: cc-by-nc-4.0\n" in double.files("model", name)["README.md"].decode()
    heard = [reader.run(f"answer = heard_in_all_ways({name!r})") for name in ("org/first", "org/second", "org/third")]
    assert heard[0] == heard[1] == heard[2]


def test_a_copy_on_the_disk_is_whole_too_and_its_copy_again(
    published: dict[str, bytes], saver: Client, reader: Client, tmp_path: Path
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    load = "AutoModel.from_pretrained({!r}, trust_remote_code=True).save_pretrained({!r})"
    saver.run(load.format("org/first", str(first)))
    reader.run(load.format(str(first), str(second)))
    for folder in (first, second):
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {**found, ".gitattributes": b""}.keys() == without_card(published).keys()
        assert all(content == published[name] for name, content in found.items()), folder
    assert reader.run(f"answer = heard_in_all_ways({str(second)!r})") == reader.run("answer = [heard('org/first')]")


@pytest.mark.parametrize("order", ["model first", "processor first"])
def test_model_and_processor_may_be_pushed_one_by_one_in_either_order(
    double: HubDouble, published: dict[str, bytes], owner: Client, reader: Client, order: str
) -> None:
    name = f"org/{order.replace(' ', '-')}"
    pushes = [f"model.push_to_hub({name!r})", f"processor.push_to_hub({name!r})"]
    owner.run("model, processor = small()\n" + "\n".join(pushes if order == "model first" else pushes[::-1]))
    assert double.files("model", name).keys() == published.keys()
    assert "license_name: not-stated" in double.files("model", name)["README.md"].decode()
    assert reader.run(f"answer = heard_in_all_ways({name!r})") == reader.run("answer = [heard('org/first')]")


def test_a_private_model_loaded_with_a_token_is_saved_whole_and_without_the_token(
    published: dict[str, bytes], owner: Client, saver: Client, tmp_path: Path
) -> None:
    owner.run("model, model.processor = small()\nmodel.push_to_hub('org/private', private=True)")
    saver.run(
        "import os\ntoken = os.environ.pop('HF_TOKEN')\n"
        "try:\n"
        "    model = AutoModel.from_pretrained('org/private', trust_remote_code=True, token=token)\n"
        f"    model.save_pretrained({str(tmp_path / 'copy')!r})\n"
        f"    torch.save(model, {str(tmp_path / 'model.pt')!r})\n"
        "finally:\n"
        "    os.environ['HF_TOKEN'] = token"
    )
    assert (tmp_path / "copy" / "tokenizer.json").read_bytes() == published["tokenizer.json"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_processor_saved_by_a_stranger_brings_the_code_of_the_model(
    published: dict[str, bytes], saver: Client, tmp_path: Path
) -> None:
    saver.run(
        f"AutoProcessor.from_pretrained('org/first', trust_remote_code=True).save_pretrained({str(tmp_path / 'p')!r})"
    )
    found = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    code = {name: content for name, content in published.items() if name.endswith(".py")}
    assert code.items() <= found.items()
    assert all(content == published[name] for name, content in found.items())


def test_a_processor_that_is_pushed_while_it_is_saved_has_its_code(
    double: HubDouble, published: dict[str, bytes], owner: Client, tmp_path: Path
) -> None:
    owner.run(
        "model, processor = small()\n"
        f"processor.save_pretrained({str(tmp_path / 'p')!r}, push_to_hub=True, repo_id='org/processor')"
    )
    files = double.files("model", "org/processor")
    assert {name for name in published if name.endswith((".py", "LICENSE"))} <= files.keys()
    assert files["tokenizer_config.json"] == published["tokenizer_config.json"]


def test_saving_with_push_to_hub_keeps_the_card_that_lies_there(
    double: HubDouble, owner: Client, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nMeasured.\n")
    owner.run(
        "model, model.processor = small()\n"
        f"model.save_pretrained({str(tmp_path)!r}, push_to_hub=True, repo_id='org/carded')"
    )
    assert double.files("model", "org/carded")["README.md"].decode().endswith("Measured.\n")
    assert (tmp_path / "README.md").read_text() == "---\nlicense: mit\n---\nMeasured.\n"


@pytest.mark.parametrize("with_processor", [True, False])
def test_every_commit_of_our_trainer_loads_and_its_card_passes_the_lint(
    double: HubDouble, owner: Client, reader: Client, tmp_path: Path, with_processor: bool
) -> None:
    name = f"org/trained-{with_processor}".lower()
    folder = tmp_path / "run"
    given = "processing_class=processor" if with_processor else "processing_class=None"
    owner.run(
        "model, processor = small()\n"
        + ("" if with_processor else "model.processor = processor\n")
        + f"trainer = CaptionTrainer(model=model, args=settings({str(folder)!r}, {name!r}), train_dataset=examples,\n"
        f"    data_collator=CaptionCollator(1, 2), sampler=SequentialSampler(examples), {given})\n"
        "train_and_push(trainer, license='cc-by-4.0', dataset_tags='org/lp-musiccaps')"
    )
    check_history(double, reader, name)
    files = double.files("model", name)
    card = files["README.md"].decode()
    assert "license: cc-by-4.0\n" in card
    assert "- org/lp-musiccaps\n" in card
    assert "| updates | 2 |" in card
    assert f'model="{name}"' in card
    assert "**cc-by-4.0**" in files["LICENSE-WEIGHTS.md"].decode()
    published = tmp_path / "published"
    published.mkdir()
    for path, content in files.items():
        (published / path).write_bytes(content)
    assert lint_model(published) == []


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint"])
def test_our_trainer_publishes_no_pickle_of_its_settings_and_no_token(
    double: HubDouble, owner: Client, reader: Client, tmp_path: Path, strategy: str
) -> None:
    name = f"org/open-{strategy}".replace("_", "-")
    owner.run(
        "import os\nmodel, processor = small()\n"
        f"arguments = settings({str(tmp_path / 'run')!r}, {name!r}, hub_token=os.environ['HF_TOKEN'])\n"
        f"arguments.hub_strategy = {strategy!r}\n"
        "os.makedirs(arguments.output_dir)\n"
        "torch.save(arguments, os.path.join(arguments.output_dir, 'training_args.bin'))  # of an earlier run\n"
        "trainer = CaptionTrainer(model=model, args=arguments, train_dataset=examples, processing_class=processor,\n"
        "    data_collator=CaptionCollator(1, 2), sampler=SequentialSampler(examples))\n"
        "train_and_push(trainer)"
    )
    commits = double.repository("model", name).commits.values()
    files = {(path, stored.sha256) for commit in commits for path, stored in commit.files.items()}
    pickles = {path for path, _ in files if path.endswith((".bin", ".pt", ".pth", ".pkl"))}
    resumes = {f"last-checkpoint/{kind}" for kind in ("optimizer.pt", "scheduler.pt", "rng_state.pth")}
    assert pickles == (resumes if strategy == "checkpoint" else set())
    assert not [path for path, digest in files if TOKEN.encode() in double.state.blobs[digest]]
    check_history(double, reader, name)


def test_every_commit_of_the_library_s_trainer_loads(
    double: HubDouble, owner: Client, reader: Client, tmp_path: Path
) -> None:
    owner.run(
        "model, processor = small()\n"
        f"trainer = Seq2SeqTrainer(model=model, args=settings({str(tmp_path / 'run')!r}, 'org/stock'),\n"
        "    train_dataset=examples, data_collator=CaptionCollator(1, 2), processing_class=processor)\n"
        "train_and_push(trainer)"
    )
    check_history(double, reader, "org/stock")
    assert {"LICENSE", "LICENSE-WEIGHTS.md"} <= double.files("model", "org/stock").keys()
    assert len(reader.run("answer = heard_in_all_ways('org/stock')")) == 1


def check_history(double: HubDouble, reader: Client, name: str) -> None:
    """Every commit but the empty first one is a model that captions, and the weights of at least two differ."""
    commits = list(double.repository("model", name).commits.values())
    made = [commit for commit in commits if "config.json" in commit.files]
    assert len(commits) - len(made) <= 1, "a commit in between has no model"
    assert len({commit.files["model.safetensors"].sha256 for commit in made}) >= 2
    for commit in made:
        assert reader.run(f"answer = heard({name!r}, revision={commit.sha!r})"), commit.title


def test_a_model_that_finds_no_tokenizer_is_saved_with_its_extractor(tmp_path: Path) -> None:
    small_model(num_mel_bins=64).save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "LICENSE-WEIGHTS.md"} <= names
    assert not [name for name in names if "token" in name or name == "processor_config.json"]
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["num_mel_bins"] == 64


def saved(folder: Path, **changes: Any) -> LpmcForConditionalGeneration:
    """A model loaded from `folder`, where it lies with its processor."""
    processor = small_processor()
    model = small_model(vocab_size=len(processor.tokenizer), **changes)
    model.processor = processor
    model.save_pretrained(folder)
    return LpmcForConditionalGeneration.from_pretrained(folder)


def test_a_processor_that_lies_there_is_left_alone_by_a_model_that_only_found_its_own(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    (tmp_path / "model" / "special_tokens_map.json").write_text("{}")
    other = small_processor()
    other.feature_extractor.min_tail_seconds = 2.5
    other.tokenizer.model_max_length = 77
    for order in ("processor first", "model first"):
        target = tmp_path / order
        steps = [other.save_pretrained, model.save_pretrained]
        for save in steps if order == "processor first" else steps[::-1]:
            save(target)
        loaded = LpmcProcessor.from_pretrained(target)
        assert (loaded.feature_extractor.min_tail_seconds, loaded.tokenizer.model_max_length) == (2.5, 77), order
        assert (target / "special_tokens_map.json").exists() == (order == "model first"), "no mixture of two tokenizers"
    other.feature_extractor.save_pretrained(tmp_path / "extractor first")
    model.save_pretrained(tmp_path / "extractor first")
    assert LpmcProcessor.from_pretrained(tmp_path / "extractor first").feature_extractor.min_tail_seconds == 2.5


def test_an_attached_processor_is_the_one_that_is_saved(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    model.processor = small_processor()
    model.processor.tokenizer.model_max_length = 77
    model.save_pretrained(tmp_path / "model")
    assert LpmcProcessor.from_pretrained(tmp_path / "model").tokenizer.model_max_length == 77


def test_a_tokenizer_that_no_longer_fits_the_vocabulary_stays_behind(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    model.resize_token_embeddings(model.config.vocab_size + 8)
    model.save_pretrained(tmp_path / "grown")
    assert not (tmp_path / "grown" / "tokenizer.json").exists()
    assert (tmp_path / "grown" / "preprocessor_config.json").exists()


def test_a_model_whose_folder_is_gone_is_saved_without_a_tokenizer(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "preprocessor_config.json").exists()
    assert not (tmp_path / "copy" / "tokenizer.json").exists()


def test_shards_variants_and_given_weights_are_saved_as_the_library_does(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 1
    model.save_pretrained(tmp_path / "variant", variant="fp32")
    assert (tmp_path / "variant" / "model.fp32.safetensors").exists()
    weights = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "given", state_dict=weights)
    names = {"shards": {}, "variant": {"variant": "fp32"}, "given": {}}
    for name, options in names.items():
        again = LpmcForConditionalGeneration.from_pretrained(tmp_path / name, **options)
        assert (tmp_path / name / "tokenizer.json").exists(), name
        change = again.final_logits_bias - model.final_logits_bias
        assert change.allclose(change.new_full((), float(name == "given"))), name


def test_what_is_saved_last_is_what_loads_in_one_file_or_in_parts(tmp_path: Path) -> None:
    model = saved(tmp_path)
    for options in ({"max_shard_size": "100KB"}, {}, {"max_shard_size": "100KB"}):
        with torch.no_grad():
            model.final_logits_bias += 1
        model.save_pretrained(tmp_path, **options)
        again = LpmcForConditionalGeneration.from_pretrained(tmp_path)
        assert torch.equal(again.final_logits_bias, model.final_logits_bias), options
        assert (tmp_path / "model.safetensors").exists() != (tmp_path / "model.safetensors.index.json").exists()
    (tmp_path / "model.safetensors").write_bytes(b"of another version of the library, which wrote both")
    model.save_pretrained(tmp_path, variant="fp32")
    assert (tmp_path / "model.safetensors").exists(), "what was not saved again is not this save's to remove"


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    model.save_pretrained(tmp_path / "copy", is_main_process=False)
    written = [path.name for path in (tmp_path / "copy").iterdir()]
    assert not [name for name in written if not name.endswith(".safetensors")], written
    (tmp_path / "model" / "LICENSE").unlink()
    model.save_pretrained(tmp_path / "model", is_main_process=False)
    assert not (tmp_path / "model" / "LICENSE").exists(), "the main process writes there"


def test_a_file_in_the_way_of_a_save_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    small_model().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_a_licence_of_somebody_else_stays_and_the_code_s_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("All rights reserved.\n")
    model = saved(tmp_path)
    save_for_hub(model, small_processor(), tmp_path)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "LICENSE").read_text() == "All rights reserved.\n"
    assert (tmp_path / "LICENSE-CODE").read_bytes() == (PROJECT / "LICENSE").read_bytes()
    assert "in `LICENSE-CODE`" in (tmp_path / "LICENSE-WEIGHTS.md").read_text()
    saved(tmp_path / "alone")
    assert "in `LICENSE`" in (tmp_path / "alone" / "LICENSE-WEIGHTS.md").read_text()
    assert not (tmp_path / "alone" / "LICENSE-CODE").exists()


def test_a_model_from_a_folder_nearby_has_its_tokenizer_saved_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "org" / "model")
    monkeypatch.chdir(tmp_path)
    model = LpmcForConditionalGeneration.from_pretrained("org/model")
    monkeypatch.chdir("/")
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "tokenizer.json").exists()


def test_weights_alone_are_stored_once_and_tables_not_at_all(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = saved(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    held = {parameter.data_ptr() for parameter in model.parameters()}
    assert len(stored) == len(held) + 1  # and final_logits_bias
    assert not [name for name in stored if re.search(r"lm_head|window|mel_filters|positional_embedding", name)]


def test_completing_a_complete_directory_changes_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    complete_directory(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_notes_about_the_machine_are_taken_out(tmp_path: Path) -> None:
    saved(tmp_path)
    notes = {
        "_name_or_path": "/home/me/model",
        "name_or_path": "/home/me",
        "_from_model_config": True,
        "is_local": True,
    }
    for path in tmp_path.glob("*config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **notes}))
    complete_directory(tmp_path)
    for path in tmp_path.glob("*config.json"):
        assert not notes.keys() & json.loads(path.read_text()).keys(), path.name


def named_files() -> dict[str, set[str]]:
    """Each code file and the neighbours that it names, read as transformers reads them: by their text."""
    pattern = re.compile(r"^\s*from\s+\.(\S+)\s+import", re.MULTILINE)
    return {path.stem: set(pattern.findall(path.read_text(encoding="utf-8"))) for path in code_files()}


def reached(name: str, names: dict[str, set[str]], on_the_way: tuple[str, ...] = ()) -> set[str]:
    assert name not in on_the_way, f"{name} names itself by way of {on_the_way}: transformers 4.53 never ends there"
    return {name}.union(*(reached(other, names, (*on_the_way, name)) for other in names[name]))


def test_the_model_s_file_names_every_other_and_no_file_names_itself_in_a_circle(tmp_path: Path) -> None:
    names = named_files()
    everything = reached("modeling_lpmc", names)
    assert everything == names.keys(), "a saved model would lack the others"
    saved(tmp_path)
    texts = "".join((tmp_path / f"{name}.json").read_text() for name in ("config", "processor_config"))
    entries = set(re.findall(r'"(\w+_lpmc)\.\w+"', texts))
    assert {"configuration_lpmc", "feature_extraction_lpmc", "modeling_lpmc", "pipeline_lpmc"} == entries
    for entry in entries:  # version 4.53 copies from a folder only what an entry names itself
        assert reached(entry, names) - {entry} == names[entry], entry
