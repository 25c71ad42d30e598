"""The authors' released checkpoint (.pth) to a model directory of this project, every tensor accounted for.

Each tensor of the checkpoint is either mapped, or compared with what our code computes and dropped; nothing is ignored
and nothing is left at its random start. Afterwards the written model is loaded again and compared with a second way to
the same numbers (`parity.py`). What was done and measured goes into `conversion.json`, `PARITY.md` and the card. All of
it is made in a folder of its own and moved to its place when the comparison has ended well.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from lpmc_errors import ModelError, disk_faults_named
from lpmc_files import write_json, write_text

from .configuration_lpmc import LpmcConfig
from .export import save_for_hub, write_model_card
from .feature_extraction_lpmc import LpmcFeatureExtractor
from .modeling_lpmc import LpmcForConditionalGeneration
from .parity import PARITY_PAGE, PARITY_STEPS, Parity, measure_parity, parity_page
from .processing_lpmc import LpmcProcessor
from .released_checkpoint import (
    FILTERS,
    POSITIONS,
    WINDOW,
    check_copies,
    check_tables,
    infer_sizes,
    map_weights,
    read_checkpoint,
)
from .released_sizes import ReleasedSizes, read_sizes
from .released_weights import (
    PAPER_REPOSITORY_CLAIM,
    RELEASED_REPOSITORY,
    ReleasedFile,
    choose_checkpoint,
    fetch_released,
    find_settings,
    is_hub_id,
    read_settings,
    sha256_of,
)
from .tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

BART_BASE = "facebook/bart-base"  # whose tokenizer and sizes the released model has
BART_BASE_VOCABULARY = 50265
NO_TOKENIZER = "none"
RECORD = "conversion.json"

_STEPS = 3 + PARITY_STEPS  # reading, mapping, writing, and the comparison
_LOCAL_LICENCE = (
    "The checkpoint was a local file, which says nothing about its licence. If it is one of the released weights of "
    f"LP-MusicCaps: the card of {RELEASED_REPOSITORY} on the Hub said mit when it was last read, and their authors' "
    f"code repository says {PAPER_REPOSITORY_CLAIM}. Only the authors can settle that."
)

Progress = Callable[[int, int, str], None]  # steps done, steps in all, the present one


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did and how exactly; the same is in `conversion.json` beside the weights."""

    checkpoint: str  # file name
    sha256: str
    epoch: int | None  # as the checkpoint says
    tokenizer: str  # the name it was loaded from, or "none"
    parameters: int  # unique ones
    mapped: int  # tensors that are now weights, the three copies of the embeddings included
    dropped: dict[str, float]  # tensors that our code computes: largest difference from ours
    parity: Parity  # the written model beside the checkpoint run by stock BART
    licence: str  # who claims what about the weights
    files: list[str]
    filled_in: list[str] = field(default_factory=list)  # tensors the file left out because others determine them
    stored_types: list[str] = field(default_factory=list)  # of the numbers in the file; the model is float32
    ignored_sizes: list[str] = field(default_factory=list)  # names in --config that say nothing about the model
    changed_decoding: dict[str, Any] = field(default_factory=dict)  # by --config, from the released settings
    trained_max_length: int | None = None  # tokens of the captions it was trained on; None when nothing says so
    repository: str | None = (
        None  # on the Hub, with `revision` (the commit) and `repository_file`; None for a local file
    )
    revision: str | None = None
    repository_file: str | None = None
    settings_file: str | None = None  # the YAML of the training beside it


def convert_source(
    source: str,
    output: Path,
    *,
    variant: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    sizes: Path | None = None,
    tokenizer: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> ConversionReport:
    """Convert `source`: a .pth file, a folder of them, or ORG/NAME on the Hub, into the model directory `output`.

    `variant` or `file` choose among several; `revision` is for the Hub. `say` is told where the weights came from and
    what their licence claims. Everything else, and what it raises, as `convert_checkpoint` and `fetch_released`.
    """
    tell = say or (lambda line: None)
    _check_output(Path(output))  # before 1.8 GB are fetched
    if is_hub_id(source):
        if progress:
            progress(0, _STEPS, f"fetching from {source}")
        origin = fetch_released(source, variant=variant, file=file, revision=revision)
        tell(f"{origin.repo_id}: {origin.file} at {origin.revision[:12]}, SHA-256 {origin.sha256[:12]}...")
        tell(origin.licence.sentence())
        return convert_checkpoint(
            origin.path, output, sizes=sizes, tokenizer=tokenizer, origin=origin, progress=progress
        )
    if revision is not None:
        raise ModelError(source, "a local file has no revision", "leave --revision out")
    path = Path(source)
    if path.is_dir():
        names = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
        path /= file if file is not None else choose_checkpoint(names, variant, where=source)
    elif variant or file:
        raise ModelError(source, "--variant and --file choose among several files", "leave them out for a single one")
    return convert_checkpoint(path, output, sizes=sizes, tokenizer=tokenizer, progress=progress)


def convert_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    sizes: Path | None = None,
    tokenizer: str | None = None,
    origin: ReleasedFile | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a released checkpoint {"epoch", "state_dict", "optimizer"} into the model directory `output`.

    Args:
        checkpoint: the .pth file. It is read as data only: a file that would run code is refused.
        sizes: JSON of what the weights do not show, above all `attention_heads`; needed unless the model has the
            released size. See `released_sizes` for what it may say.
        tokenizer: folder or Hub id of the model's tokenizer. By default facebook/bart-base for a vocabulary of 50,265;
            where it cannot be had, the model is written with its feature extractor but without a tokenizer and
            processor, and the report says `tokenizer: none`.
        origin: where on the Hub the file came from, for the record and the card.

    Either the whole directory is there afterwards, or `output` is as it was: an earlier conversion there is replaced at
    the end, and a model from elsewhere is never touched.

    Raises:
        ModelError: the file is missing, no checkpoint or holds code; keys are missing or unknown; a shape, a tied copy
            or a table differs; the sizes contradict the weights; the named tokenizer does not fit; `output` holds
            another model; the written model does not reproduce the checkpoint.
        DiskError: `output` cannot be written.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    tell = progress or (lambda done, total, note: None)
    _check_output(output)
    tell(0, _STEPS, "reading the checkpoint")
    released = read_checkpoint(checkpoint)
    settings = origin.settings if origin else _settings_beside(checkpoint)
    described = read_sizes(sizes, infer_sizes(released), checkpoint, described=settings)
    model = LpmcForConditionalGeneration(described.config).eval()
    dropped = check_tables(released, _our_tables(model))
    check_copies(released)
    tell(1, _STEPS, "mapping the weights")
    weights = map_weights(released, model.state_dict())
    model.load_state_dict(weights, strict=True)
    model.tie_weights()
    for name, value in described.generation.items():
        setattr(model.generation_config, name, value)
    extractor = LpmcFeatureExtractor.for_config(described.config)
    loaded, tokenizer_name = _find_tokenizer(tokenizer, described.config, checkpoint)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with _new_directory(output) as staging:
        tell(2, _STEPS, "writing the model")
        licence, note = _licence(origin)
        save_for_hub(
            model,
            LpmcProcessor(extractor, loaded) if loaded is not None else extractor,
            staging,
            weights_licence=licence,
            licence_note=note,
        )
        del model  # 0.6 GB at the released size, before two more models are made
        try:
            parity = measure_parity(
                released.state, staging, extractor, lambda done, total, note: tell(3 + done, 3 + total, note)
            )
        except (ValueError, TypeError, IndexError) as error:  # what the library finds out when it decodes
            if not described.generation:
                raise
            reason = " ".join(str(error).split())[:200].rstrip(".")
            problem = f"these settings cannot be decoded with ({reason})"
            raise ModelError(sizes or checkpoint, problem, "correct them") from error
        if faults := parity.faults():
            raise ModelError(
                checkpoint,
                f"the model differs from the checkpoint: {', '.join(faults)}",
                "nothing was written; report it with the versions of torch and transformers",
            )
        report = ConversionReport(
            checkpoint=checkpoint.name,
            sha256=origin.sha256 if origin else sha256_of(checkpoint),
            epoch=released.epoch,
            tokenizer=tokenizer_name,
            parameters=parameters,
            mapped=len(weights),
            dropped=dropped,
            parity=parity,
            licence=note,
            files=[],
            filled_in=list(released.filled_in),
            stored_types=list(released.stored_types),
            ignored_sizes=list(described.ignored),
            changed_decoding=described.generation,
            trained_max_length=_trained_length(settings, described, checkpoint),
            **({} if origin is None else _origin_fields(origin)),
        )
        return _write_account(report, staging, output.resolve().name)


def _write_account(report: ConversionReport, staging: Path, name: str) -> ConversionReport:
    """Write parity page, record and card; return the report with the names of all files."""
    write_text(staging / PARITY_PAGE, parity_page(report.parity, report.checkpoint, report.sha256))
    write_json(staging / RECORD, asdict(report))  # the card is made from what lies there
    write_model_card(staging, model_name=name, summary=_summary(report), base_model=report.repository)
    files = sorted({path.name for path in staging.iterdir()})
    complete = replace(report, files=files)
    write_json(staging / RECORD, asdict(complete))
    return complete


def _summary(report: ConversionReport) -> dict[str, Any]:
    parity = report.parity
    where = f"`{report.checkpoint}`"
    if report.repository:
        page = f"https://huggingface.co/{report.repository}/blob/{report.revision}/{report.repository_file}"
        where = f"[{report.repository_file} of {report.repository}]({page})"
    exactness = (
        f"encoder states within {parity.encoder_max_abs:g}, loss within {parity.loss_abs:g}, the same tokens greedily "
        f"and with {parity.beams} beams ({PARITY_PAGE})"
    )
    return {
        "Converted from": f"{where}, sha256-{report.sha256}",
        "Parameters": report.parameters,
        "Tensors mapped": report.mapped,
        "Tokenizer": report.tokenizer,
        "Beside the checkpoint": exactness,
    }


# -- parts --------------------------------------------------------------------


def _our_tables(model: LpmcForConditionalGeneration) -> dict[str, Any]:
    encoder = model.model.encoder
    return {
        POSITIONS: encoder.conv_stem.positional_embedding,
        WINDOW: encoder.log_mel.window,
        FILTERS: encoder.log_mel.mel_filters,
    }


def _settings_beside(checkpoint: Path) -> dict[str, Any]:
    names = {path.name for path in checkpoint.parent.iterdir()} if checkpoint.parent.is_dir() else set()
    found = find_settings(checkpoint.name, names)
    return read_settings(checkpoint.parent / found) if found else {}


def _trained_length(settings: dict[str, Any], described: ReleasedSizes, checkpoint: Path) -> int | None:
    length = settings.get("max_length")
    if isinstance(length, bool) or not isinstance(length, int):
        return None
    if length > described.config.max_position_embeddings:
        positions = described.config.max_position_embeddings
        problem = f"its settings speak of captions of {length} tokens, and it has {positions} positions"
        raise ModelError(checkpoint, problem, "the settings beside it belong to another checkpoint")
    return length


def _licence(origin: ReleasedFile | None) -> tuple[str | None, str]:
    """The licence of the weights in short, and who claims what."""
    if origin is None:
        return None, _LOCAL_LICENCE
    claims = origin.licence
    if not claims.paper_repository:
        return claims.hub, f"{origin.repo_id}: {claims.sentence()}."
    on_the_hub = f"{claims.hub} on the Hub" if claims.hub else "not stated on the Hub"
    return f"{on_the_hub}, CC BY-NC 4.0 on GitHub", f"{origin.repo_id}: {claims.sentence()}."


def _origin_fields(origin: ReleasedFile) -> dict[str, Any]:
    return {
        "repository": origin.repo_id,
        "revision": origin.revision,
        "repository_file": origin.file,
        "settings_file": origin.settings_file,
    }


def _find_tokenizer(name: str | None, config: LpmcConfig, path: Path) -> tuple[PreTrainedTokenizerBase | None, str]:
    if name is None:
        if config.vocab_size != BART_BASE_VOCABULARY:
            return None, NO_TOKENIZER
        try:
            tokenizer = load_tokenizer(BART_BASE).tokenizer
        except ModelError as error:
            logger.warning("%s; the model is written without tokenizer", error)
            return None, NO_TOKENIZER
        name = BART_BASE
    else:
        tokenizer = load_tokenizer(name).tokenizer
    if len(tokenizer) > config.vocab_size:
        raise ModelError(name, f"it has {len(tokenizer)} tokens, and {path.name} only {config.vocab_size}")
    for token in ("bos_token_id", "pad_token_id", "eos_token_id"):
        wanted = getattr(config, token)
        if getattr(tokenizer, token) != wanted:
            raise ModelError(name, f"its {token} is {getattr(tokenizer, token)}, and the model's {wanted}")
    return tokenizer, name


# -- a directory that is whole or as it was -----------------------------------


def _check_output(output: Path) -> None:
    """Raise `ModelError` when `output` is a file or holds a model that no conversion made."""
    if output.exists() and not output.is_dir():
        raise ModelError(output, "it is a file", "name a directory for the model")
    if (output / "config.json").exists() and not (output / RECORD).exists():
        raise ModelError(output, "it holds a model that was not converted", "name another directory")


@contextmanager
def _new_directory(output: Path) -> Iterator[Path]:
    """A folder to fill. When the block ends well its files are in `output`, where those of an earlier conversion go."""
    with disk_faults_named(output):
        base = output if output.is_dir() else output.resolve().parent
        base.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.resolve().name}.", dir=base))
        staging = work / "model"
        try:
            staging.mkdir()
            yield staging
            if not output.is_dir():
                staging.rename(output.resolve())  # what a link to nothing yet points to
                return
            obsolete = _recorded_files(output)
            # config.json last: what has none is no model, and a reader of the old one meets no new weights under it
            made = sorted(staging.iterdir(), key=lambda path: path.name == "config.json")
            for path in made:
                path.replace(output / path.name)
                obsolete.discard(path.name)
            for name in obsolete:
                (output / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _recorded_files(directory: Path) -> set[str]:
    """The files that an earlier conversion says it made there."""
    try:
        files = json.loads((directory / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in files if isinstance(name, str) and "/" not in name}
