"""Which model a score was made with: where it lies, and the revision that goes into the signature.

A score of an embedding model is worth nothing without the model's revision: a repository on the Hub can change under
its name, and a folder can hold anything. What loads wrongly without a word is refused here as well: transformers 5
gives a folder without tokenizer files a tokenizer whose every word is unknown, and weights that are missing random
values, and both still yield scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import LpmcError, MissingExtraError, ModelError

Progress = Callable[[int, int], None]  # items done, items in all

FALLBACK_TOKENS = 512  # tokens; BERT's positions, where neither tokenizer nor weights state a limit
UNSTATED_TOKENS = 10**9  # tokens; transformers writes 1e30 where a tokenizer states no limit
HASH_SHOWN = 16  # hexadecimal digits of a sha256 in a signature; a commit is shown whole, as it can be asked for again
_READ_BYTES = 2**20  # bytes hashed at a time


@dataclass(frozen=True)
class ModelSource:
    """A model that was found: `name` for readers, `location` and `commit` for loading, `revision` for the signature.

    `revision` is the Hub's commit, or for a local folder `sha256:` and the start of the digest of its weights (of one
    file, what `sha256sum` prints; of several, the digest of the lines that it prints for them, sorted by path).
    """

    name: str
    location: str
    commit: str | None
    revision: str


def find_model(model: str | Path) -> ModelSource:
    """Find a model folder, or a model of the Hub (from the cache where it is there), before anything is computed.

    A Hub name may carry a revision: `org/name@commit`. Fetches no more than a small configuration file. Raises
    `ModelError` where neither a folder nor a model of that name can be had.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _local_model(folder.resolve())
    if folder.exists():
        raise ModelError(model, "is a file", "give the folder of the model or its name on the Hub")
    return _hub_model(str(model))


def _local_model(folder: Path) -> ModelSource:
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):  # the Hub's own cache
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        return ModelSource(name, str(folder), None, folder.name)
    return ModelSource(folder.name, str(folder), None, f"sha256:{_weights_digest(folder)[:HASH_SHOWN]}")


def _hub_model(model: str) -> ModelSource:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = model.partition("@")
    try:
        for filename in ("config.json", "modules.json"):  # a few sentence encoders have the second alone
            try:
                found = Path(hf_hub_download(name, filename, revision=revision or None))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
            commit = found.parent.name
            return ModelSource(name, name, commit, commit)
    except HFValidationError as error:
        raise ModelError(
            model, "is neither a folder nor the name of a model", "give a model folder or org/name"
        ) from error
    except GatedRepoError as error:
        remedy = "accept them on the Hub, then `hf auth login`"
        raise ModelError(model, "asks for its terms to be accepted", remedy) from error
    except RevisionNotFoundError as error:
        raise ModelError(model, f"has no revision {revision}", "name a commit, branch or tag of it") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            model, "is no model on the Hub that you may read", "check the name, or give a model folder"
        ) from error
    except OSError as error:  # offline and not in the cache, or no answer
        raise ModelError(
            model,
            "is not in the local cache and the Hub cannot be reached",
            "download it where there is a network (`hf download`) and give its folder",
        ) from error
    raise ModelError(model, "has neither config.json nor modules.json", "give a model that transformers can load")


def _weights_digest(folder: Path) -> str:
    """Of the weights that a loader takes: at the top, and in the numbered folders of a sentence encoder's modules."""
    places = [folder, *sorted(place for place in folder.glob("[0-9]*_*") if place.is_dir())]
    files: list[Path] = []
    for place in places:
        # safetensors go before pickles, as they do in transformers
        files += sorted(place.glob("*.safetensors")) or sorted(place.glob("pytorch_model*.bin"))
    if not files:
        raise ModelError(folder, "holds no weights (*.safetensors, pytorch_model*.bin)", "give a saved model's folder")
    digests = [(file_digest(file), file.relative_to(folder).as_posix()) for file in files]
    if len(digests) == 1:
        return digests[0][0]
    listing = "".join(f"{digest}  {path}\n" for digest, path in sorted(digests, key=lambda entry: entry[1]))
    return hashlib.sha256(listing.encode()).hexdigest()


def file_digest(file: Path) -> str:
    """The sha256 of a file as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def model_library() -> Any:
    """The module transformers. Raises `MissingExtraError` where it or torch is not installed."""
    try:
        import torch  # noqa: F401 - without it transformers imports, and fails later
        import transformers
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", extra="meaning") from error
    return transformers


@contextmanager
def loading(model: str | Path, purpose: str) -> Iterator[None]:
    """Turn whatever a loader raises into a `ModelError` that names the model, and keep its progress bars silent."""
    logging = model_library().utils.logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its report of weights that were not used; those that are missing are refused below
    try:
        yield
    except LpmcError:
        raise
    except Exception as error:  # loaders raise OSError, ValueError, KeyError, RuntimeError and errors of their own
        told = str(error).strip().splitlines()
        raise ModelError(
            model, f"cannot be loaded for {purpose}: {told[0] if told else type(error).__name__}", "give another model"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def load_weights(loader: Any, source: ModelSource, purpose: str, *, unused: Sequence[str] = ()) -> Any:
    """Load a model with a class of transformers, in float32 and in evaluation mode; never runs a repository's code.

    Raises `ModelError` where weights are missing that the scores need (`unused` names those that they do not: parts of
    their names), which transformers fills with random numbers.
    """
    import torch

    with loading(source.name, purpose):
        # transformers 5 keeps the type of the file otherwise, which is half precision in some
        model, report = loader.from_pretrained(
            source.location,
            revision=source.commit,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,  # left out, transformers would ask at the terminal
        )
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in unused))
    missing += sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if missing:
        raise ModelError(
            source.name,
            f"lacks {len(missing)} of the weights that {purpose} needs, among them {missing[0]}",
            "give a model that was saved for this task",
        )
    return model.eval()


def load_tokenizer(source: ModelSource, purpose: str) -> Any:
    """The model's own tokenizer. Raises `ModelError` where it has none."""
    with loading(source.name, purpose):
        tokenizer = model_library().AutoTokenizer.from_pretrained(
            source.location, revision=source.commit, trust_remote_code=False
        )
    check_tokenizer(tokenizer, source)
    return tokenizer


def check_tokenizer(tokenizer: Any, source: ModelSource) -> None:
    """Raise `ModelError` for the tokenizer without words that transformers 5 makes where the files are missing."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(source.name, "has no tokenizer files", "save the tokenizer beside the weights")


def token_limit(tokenizer: Any, model: Any) -> int:
    """Tokens of a text that the model can read, special ones included: what the tokenizer states and the weights hold.

    RoBERTa and its kin number positions from the padding index on, so two of the 514 that they hold are no use.
    """
    import torch

    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < UNSTATED_TOKENS else []
    for name, module in model.named_modules():
        if name.endswith(("position_embeddings", "wpe")) and isinstance(module, torch.nn.Embedding):
            used = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - used)
            break
    return min(limits, default=FALLBACK_TOKENS)


def count_truncated(texts: Sequence[str], tokenizer: Any, limit: int) -> int:
    """How many texts are longer than `limit` tokens, so that the model sees only their beginning."""
    return sum(len(tokenizer.encode(text, verbose=False)) > limit for text in texts)


def pick_device(device: str | None) -> str:
    """`device` as given, else `cuda` where there is one, else `cpu`."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")
