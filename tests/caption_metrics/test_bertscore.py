"""BERTScore on small random models: held against bert_score and against a computation text by text."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hub_double import HubDouble
from small_models import save_bert, save_bert_tokenizer

from caption_metrics.embedding import BertscoreModel, bertscore_values, load_bertscore_model
from caption_metrics.model_source import find_model
from lpmc_errors import MissingExtraError, ModelError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PREDICTIONS = [
    "a sad piano plays.",
    "loud drums and a fast guitar, with a violin and the soft voice of a slow piano",
    "happy",
    "the guitar plays slow, the voice sings soft!",
]
REFERENCES = [
    ["a slow sad piano.", "the violin sings"],
    ["fast drums", "a loud guitar with drums and a violin", "an unheard theremin"],
    ["a happy voice sings and plays the guitar"],
    ["the slow guitar plays and a soft voice sings."],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="module")
def model(folder: Path) -> BertscoreModel:
    return load_bertscore_model(str(folder), layer=2)


def by_hand(prediction: str, references: Sequence[str], folder: Path, layer: int) -> np.ndarray:
    """Precision, recall and F1, one text and one token at a time, from all layers of the whole model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()

    def tokens(text: str) -> tuple[list[np.ndarray], list[bool]]:
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = network(**ids, output_hidden_states=True).hidden_states[layer][0].double().numpy()
        names = tokenizer.convert_ids_to_tokens(ids["input_ids"][0])
        return [row / np.linalg.norm(row) for row in hidden], [name not in ("[CLS]", "[SEP]") for name in names]

    claimed, claimed_counts = tokens(prediction)
    scores = []
    for reference in references:
        stated, stated_counts = tokens(reference)
        precision = np.mean(
            [max(c @ s for s in stated) for c, counts in zip(claimed, claimed_counts, strict=True) if counts]
        )
        heard = zip(stated, stated_counts, strict=True)
        recall = np.mean([max(c @ s for c in claimed) for s, counts in heard if counts])
        scores.append((precision, recall, 2 * precision * recall / (precision + recall)))
    return np.max(scores, axis=0)


def test_every_value_is_the_greedy_cosine_matching_of_the_tokens(folder: Path, model: BertscoreModel) -> None:
    values = np.stack(bertscore_values(PREDICTIONS, REFERENCES, model), axis=1)
    for value, prediction, references in zip(values, PREDICTIONS, REFERENCES, strict=True):
        assert value == pytest.approx(by_hand(prediction, references, folder, layer=2), abs=1e-6)
    assert values.shape == (4, 3)
    assert values.dtype == np.float64


def test_the_values_are_those_of_the_package_bert_score(folder: Path, model: BertscoreModel) -> None:
    bert_score = pytest.importorskip("bert_score")
    theirs = bert_score.score(PREDICTIONS, REFERENCES, model_type=str(folder), num_layers=2)
    for ours, other in zip(bertscore_values(PREDICTIONS, REFERENCES, model), theirs, strict=True):
        assert ours == pytest.approx(other.numpy(), abs=1e-6)


def test_a_value_does_not_depend_on_the_other_captions(model: BertscoreModel, monkeypatch: pytest.MonkeyPatch) -> None:
    together = bertscore_values(PREDICTIONS, REFERENCES, model)[2]
    alone = [
        bertscore_values([prediction], [references], model)[2][0]
        for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True)
    ]
    assert together == pytest.approx(alone, abs=1e-6)
    monkeypatch.setattr("caption_metrics.embedding.GROUP_CHARACTERS", 100)
    monkeypatch.setattr("caption_metrics.embedding.BATCH_TOKENS", 20)
    steps: list[tuple[int, int]] = []
    split = bertscore_values(PREDICTIONS, REFERENCES, model, progress=lambda *step: steps.append(step))[2]
    assert together == pytest.approx(split, abs=1e-6)
    assert len(steps) > 1
    assert steps[-1] == (4, 4)


def test_one_text_is_one_reference_and_not_its_letters(model: BertscoreModel) -> None:
    listed = bertscore_values(["a sad piano"], [["a soft piano"]], model)
    assert np.array_equal(bertscore_values(["a sad piano"], ["a soft piano"], model), listed)


def test_empty_texts_count_nothing_and_crash_nothing(model: BertscoreModel) -> None:
    predictions = ["", " \n", "a sad piano", "a sad piano", "a sad piano"]
    references = [["a piano"], ["a piano"], ["", "a sad piano"], ["", " "], []]
    for values in bertscore_values(predictions, references, model):
        assert values == pytest.approx([0, 0, 1, 0, 0], abs=1e-6)
    assert all(len(values) == 0 for values in bertscore_values([], [], model))


@pytest.mark.parametrize("architecture", ["Roberta", "DistilBert", "GPT2", "Albert", "T5"])
def test_any_architecture_gives_the_layer_that_was_asked_for(architecture: str, tmp_path: Path) -> None:
    tokenizer = save_bert_tokenizer(tmp_path)
    size = len(tokenizer)
    settings = {
        "Roberta": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 40},
        "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40},
        "GPT2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40},
        "Albert": {"hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2},
        "T5": {"d_model": 16, "num_layers": 3, "num_heads": 2, "d_kv": 8, "d_ff": 32},
    }[architecture]
    transformers.set_seed(0)
    config = getattr(transformers, f"{architecture}Config")(vocab_size=size, pad_token_id=0, **settings)
    network = getattr(transformers, f"{architecture}Model")(config).eval()
    network.save_pretrained(tmp_path)

    ready = load_bertscore_model(str(tmp_path), layer=2)
    values = bertscore_values(["a sad piano plays"], [["loud drums"]], ready)
    network = network.get_encoder() if architecture == "T5" else network
    with torch.no_grad():
        claimed, stated = (
            network(**_ids(tokenizer, text), output_hidden_states=True).hidden_states[2][0]
            for text in ("a sad piano plays", "loud drums")
        )
        if architecture == "GPT2":  # the layers above are cut, and its last step is a norm
            claimed, stated = network.ln_f(claimed), network.ln_f(stated)
        if architecture == "T5":
            claimed, stated = network.final_layer_norm(claimed), network.final_layer_norm(stated)
    cosines = torch.nn.functional.normalize(claimed, dim=-1) @ torch.nn.functional.normalize(stated, dim=-1).T
    assert values[0][0] == pytest.approx(float(cosines.max(1).values[1:-1].mean()), abs=1e-5)
    assert values[1][0] == pytest.approx(float(cosines.max(0).values[1:-1].mean()), abs=1e-5)


def _ids(tokenizer: object, text: str) -> dict[str, object]:
    return {"input_ids": tokenizer(text, return_tensors="pt")["input_ids"]}  # type: ignore[operator]


def test_roberta_reads_the_first_word_with_the_space_that_it_was_trained_with(tmp_path: Path) -> None:
    """bert_score asked for it with transformers 4; with 5 the request goes unheard and the values differ."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["a sad piano plays with the sad piano"] * 20, trainer)
    backend.model.save(str(tmp_path))
    tokenizer = transformers.RobertaTokenizer(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    tokenizer.save_pretrained(tmp_path)
    transformers.set_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
        type_vocab_size=1,
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path)

    ready = load_bertscore_model(str(tmp_path))
    assert "|prefix_space:yes|" in ready.signature
    assert ready.limit == 32  # 34 positions less the two that RoBERTa never uses
    with_space = bertscore_values(["piano plays"], [["sad piano"]], ready)[2]
    assert with_space == pytest.approx(bertscore_values([" piano plays"], [[" sad piano"]], ready)[2], abs=1e-6)
    words = tokenizer.convert_ids_to_tokens(tokenizer.encode(ready._prepared("piano")))
    assert words == ["<s>", "Ġpiano", "</s>"]


def test_long_texts_are_cut_at_the_limit_and_counted(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "unlimited", limit=None, max_position_embeddings=16)
    ready = load_bertscore_model(str(folder))
    assert "|tokens:16|" in ready.signature
    long = " ".join(["piano"] * 13 + ["sad", "drums", "guitar"])
    short = " ".join(["piano"] * 13 + ["sad"])  # with [CLS] and [SEP] sixteen tokens
    assert bertscore_values([long], [[short]], ready)[2] == pytest.approx([1.0], abs=1e-6)
    assert ready.truncated([long, short, "a piano"]) == 1
    stated = save_bert(tmp_path / "stated", limit=10, max_position_embeddings=16)
    assert load_bertscore_model(str(stated)).limit == 10


def test_the_layer_is_the_recommended_one_where_the_name_is_known(tmp_path: Path) -> None:
    known = save_bert(tmp_path / "roberta-large", num_hidden_layers=18)
    assert load_bertscore_model(str(known)).layer == 17
    small = save_bert(tmp_path / "again" / "roberta-large")
    assert load_bertscore_model(str(small)).layer == 4  # a folder of that name that cannot be it
    with pytest.raises(ModelError, match="has layers 1 to 4, not 5"):
        load_bertscore_model(str(small), layer=5)


def test_a_local_model_is_named_by_its_folder_and_the_digest_of_its_weights(folder: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    expected = f"model:tiny-bert|layer:4|revision:sha256:{digest[:16]}|tokens:64|prefix_space:no|idf:no"
    assert load_bertscore_model(str(folder)).signature.startswith(expected)
    other = save_bert(tmp_path / "tiny-bert", initializer_range=0.4)
    assert find_model(other).revision != find_model(folder).revision


def test_models_that_cannot_be_had_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    def refusal(place: object) -> str:
        with pytest.raises(ModelError) as caught:
            load_bertscore_model(str(place))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is neither a folder nor the name of a model" in refusal(tmp_path / "nowhere")
    assert "not in the local cache and the Hub cannot be reached" in refusal("someone/no-such-model")
    assert "is a file" in refusal(folder / "config.json")
    assert "holds no weights" in refusal(_copied(folder, tmp_path / "bare", leave={"model.safetensors"}))
    wordless = _copied(folder, tmp_path / "wordless", leave={"vocab.txt", "tokenizer.json", "tokenizer_config.json"})
    assert "has no tokenizer files" in refusal(wordless)
    damaged = _copied(folder, tmp_path / "damaged", leave=set())
    (damaged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:3000])
    assert "cannot be loaded for BERTScore" in refusal(damaged)
    config = json.loads((folder / "config.json").read_text())
    deeper = _copied(folder, tmp_path / "deeper", leave=set())
    (deeper / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    assert "lacks 16 of the weights that BERTScore needs" in refusal(deeper)


def test_code_that_a_model_brings_is_not_run(folder: Path, tmp_path: Path) -> None:
    brought = _copied(folder, tmp_path / "brought", leave=set())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (brought / "config.json").write_text(json.dumps(config))
    (brought / "own.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded for BERTScore"):
        load_bertscore_model(str(brought))
    assert not (tmp_path / "it-ran").exists()


def test_without_the_packages_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"^transformers: .*lp-musiccaps\[meaning\]"):
        load_bertscore_model(str(folder))


def _copied(folder: Path, target: Path, leave: set[str]) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        if file.name not in leave:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_model_of_the_hub_is_named_by_its_commit_with_and_without_a_network(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from caption_metrics.model_source import find_model\n"
        "for name in sys.argv[1:]:\n"
        "    try: found = find_model(name); print(found.name, found.commit == found.revision, found.revision)\n"
        "    except Exception as error: print(error)\n"
    )
    upload = (
        "import sys; from huggingface_hub import HfApi\n"
        "api = HfApi(); api.create_repo('org/tiny-bert')\n"
        "api.upload_folder(repo_id='org/tiny-bert', folder_path=sys.argv[1])\n"
        "print(api.model_info('org/tiny-bert').sha)\n"
    )

    def run(code: str, *arguments: str, **variables: str) -> list[str]:
        command = [sys.executable, "-c", code, *arguments]
        environment = hub.environment(tmp_path) | variables
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()

    with HubDouble() as hub:
        commit = run(upload, str(folder))[-1]
        named = f"org/tiny-bert True {commit}"
        pinned = f"org/tiny-bert@{commit}"
        told = run(program, "org/tiny-bert", pinned, "org/tiny-bert@v9", "org/absent")
        assert told[:2] == [named, named]
        assert told[2].startswith("org/tiny-bert@v9: has no revision v9;")
        assert told[3].startswith("org/absent: is no model on the Hub that you may read;")
        assert run(program, "org/tiny-bert", pinned, HF_HUB_OFFLINE="1") == [named, named]
    cached = next((tmp_path / "hub" / "models--org--tiny-bert" / "snapshots").iterdir())
    assert (find_model(cached).name, find_model(cached).revision) == ("org/tiny-bert", commit)
