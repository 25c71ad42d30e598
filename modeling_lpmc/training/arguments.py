"""A training recipe: one YAML file, read into frozen dataclasses, with `section.key=value` overrides.

Every key acts. An unknown one, a wrong type or two keys that contradict each other stop the run before any work.
Which values the paper and its released code used, and where they disagree, stands in `recipes/*.yaml`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lpmc_errors import UsageError
from modeling_lpmc.training.augmentation import AugmentationArguments

RECIPES = Path(__file__).parent / "recipes"  # shipped with the package; usable by name, `quickstart`

CAPTION_COLUMNS = (  # names of the published data sets
    "caption_writing",
    "caption_summary",
    "caption_paraphrase",
    "caption_attribute_prediction",
    "caption_ground_truth",
)


LOGGERS = ("tensorboard", "trackio")


@dataclass(frozen=True)
class ModelArguments:
    """What is trained. Sizes default to the released model's (facebook/bart-base; paper section 5.1).

    Attributes:
        start_from: directory or Hub id of a captioner whose weights, sizes and tokenizer are taken over (transfer);
            None starts from random weights, as the paper does.
        tokenizer: "train" makes one from the training captions; anything else is loaded as a Hub id or directory.
        vocabulary_size: tokens of a trained tokenizer at most; also used when the tokenizer cannot be loaded.
        feed_forward: width of the inner layer of each block.
        spectrum: see `LpmcConfig`. "real" is the released model's.
        initial_deviation: of the random weights but for the convolutions; bart-base's 0.02 suits 768 channels, and a
            narrow model barely hears its encoder with it.
        calibrate: start the convolutions from the statistics of the training clips (see `calibration`); false starts
            them as PyTorch and the released code do.
        dropout: of activations, attention and embeddings alike (bart-base has 0.1 for all three).
        demonstration: marks the model as one that shows the machinery and says little about music.
        weights_licence: what others may do with the weights, a Hub identifier (cc-by-4.0) or words; for its card and
            LICENSE-WEIGHTS.md. None leaves what `start_from` says, else it is not stated.
    """

    start_from: str | None = None
    tokenizer: str = "facebook/bart-base"
    vocabulary_size: int = 8000
    d_model: int = 768
    encoder_layers: int = 6
    decoder_layers: int = 6
    attention_heads: int = 12
    feed_forward: int = 3072
    max_caption_positions: int = 1024
    num_mel_bins: int = 128
    num_conv_layers: int = 6
    spectrum: Literal["real", "power"] = "real"
    initial_deviation: float = 0.02
    calibrate: bool = False
    dropout: float = 0.1
    label_smoothing: float = 0.1
    demonstration: bool = False
    weights_licence: str | None = None


@dataclass(frozen=True)
class DataArguments:
    """Where clips and captions come from and how they are drawn.

    Attributes:
        dataset: a built directory or a Hub id. config: its configuration; None when it has only one or a default.
        captions: columns to learn from; a row with none of them filled is left out and counted.
        sampling: "shuffled" gives every clip once an epoch, "ordered" likewise in file order, "balanced_tags" draws a
            tag, then a clip that has it, then a caption, each uniformly (the paper's pre-training).
        tags: column of tags; only read by "balanced_tags".
        draws_per_epoch: clips of one epoch of "balanced_tags".
        drop_last: leave out the clips of an epoch that do not fill a batch.
        crop: window of a clip longer than the model's ten seconds: anywhere, or its beginning. Evaluation always
            takes the middle.
        max_caption_tokens: longer captions are cut.
        max_rows: read only so many rows of the split; None reads all.
        cache: directory of decoded audio and spectrograms, kept between runs; None is `lp-musiccaps` beside the Hub's
            own cache (HF_HOME).
    """

    dataset: str = "lp-musiccaps"
    config: str | None = None
    split: str = "train"
    captions: tuple[str, ...] = CAPTION_COLUMNS
    sampling: Literal["shuffled", "ordered", "balanced_tags"] = "shuffled"
    tags: str = "tag"
    draws_per_epoch: int = 8192
    drop_last: bool = False
    crop: Literal["random", "first"] = "random"
    max_caption_tokens: int = 128
    max_rows: int | None = None
    cache: str | None = None


@dataclass(frozen=True)
class OptimisationArguments:
    """AdamW with warm-up and cosine, set before every update.

    Attributes:
        epochs, updates: length of the run; exactly one of them.
        warmup_epochs, warmup_updates: linear rise from 0 to `learning_rate`; at most one of them.
        batch_size: clips of one update, over all devices. clips_per_step: of them, clips that one device takes at a
            time, the rest is accumulated; None takes all at once.
        weight_decay_on: "all" parameters, as released, or "matrices": neither biases, norms nor learned positions.
        beta2: of AdamW; 0.999 forgets a gradient in about a thousand updates, 0.98 in fifty.
        max_gradient_norm: 0 clips nothing (released code).
        precision: "auto" is bfloat16 on a GPU that has it and float32 elsewhere. "bfloat16" works on a CPU too;
            weights, loss and spectrograms stay in float32.
        compile: translate the model by torch.compile before it trains; on a CPU that needs a C++ compiler.
        seed: of weights, draws and dropout.
        loader_workers: threads that make batches ahead of the model; 0 makes each when it is wanted.
        log_every, save_every: updates. keep_checkpoints: how many are kept while training runs;
            with `evaluation.best_by` at least two, the best and the last.
    """

    epochs: float | None = None
    updates: int | None = None
    warmup_epochs: float | None = None
    warmup_updates: int | None = None
    batch_size: int = 64
    clips_per_step: int | None = None
    learning_rate: float = 1e-4
    final_learning_rate: float = 0.0
    weight_decay: float = 0.01
    weight_decay_on: Literal["all", "matrices"] = "all"
    beta2: float = 0.999
    max_gradient_norm: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    seed: int = 0
    loader_workers: int = 0
    log_every: int = 50
    save_every: int = 1000
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class EvaluationArguments:
    """What is measured on clips that are not trained on.

    Attributes:
        split: of the same data set; None evaluates nothing.
        every_updates: also measure the loss during training; None measures it once, at the end.
        generated_captions: of the split's first clips, captioned at the end and written to `inference.json` beside
            their references; 0 writes none.
        max_rows: read only so many rows of the split; None reads all.
        sample_captions: of clips spread over the split, captioned at each evaluation during training and written to
            `samples.md`; 0 writes none.
        scored_captions: likewise, scored beside blind captions and written to `metrics.jsonl` (the extra `metrics`).
        best_by: what decides which evaluation was the best; the weights of that update are then the ones that the run
            saves. Scores are those of `scored_captions`. None saves the last weights.
        patience: end the run after so many evaluations in a row that were not the best.
        loggers: "tensorboard" (into the run's directory) and "trackio" (on this machine), of the extra `loggers`.
    """

    split: str | None = None
    every_updates: int | None = None
    generated_captions: int = 0
    max_rows: int | None = None
    sample_captions: int = 0
    scored_captions: int = 0
    best_by: Literal["loss", "facts_f1", "bleu1", "bleu4", "meteor", "rougeL"] | None = None
    patience: int | None = None
    loggers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that decides a training run."""

    model: ModelArguments = field(default_factory=ModelArguments)
    data: DataArguments = field(default_factory=DataArguments)
    augmentation: AugmentationArguments = field(default_factory=AugmentationArguments)
    optimisation: OptimisationArguments = field(default_factory=OptimisationArguments)
    evaluation: EvaluationArguments = field(default_factory=EvaluationArguments)

    def as_dict(self) -> dict[str, Any]:
        """The resolved recipe as nested plain values, as `training.json` records it.

        That file may be published, so folders of this machine are named by their last part and the cache is left out.
        """
        sections = {name: _plain(values) for name, values in dataclasses.asdict(self).items()}
        del sections["data"]["cache"]
        for section, key in (("data", "dataset"), ("model", "start_from"), ("model", "tokenizer")):
            value = sections[section][key]
            if value is not None and Path(value).exists():
                sections[section][key] = Path(value).resolve().name
        return sections


_SECTIONS = {
    "model": ModelArguments,
    "data": DataArguments,
    "augmentation": AugmentationArguments,
    "optimisation": OptimisationArguments,
    "evaluation": EvaluationArguments,
}
_KEYS = [f"{name}.{item.name}" for name, section in _SECTIONS.items() for item in dataclasses.fields(section)]
_EITHER_OR = [("epochs", "updates"), ("warmup_epochs", "warmup_updates")]  # of `optimisation`
# A captioner that is taken over brings its sizes and tokenizer along; these may still be chosen.
_ACT_WITH_START_FROM = {"start_from", "dropout", "label_smoothing", "demonstration", "weights_licence"}
_MAY_BE_ZERO = {
    *("dropout", "label_smoothing", "warmup_epochs", "warmup_updates", "final_learning_rate"),
    *("weight_decay", "max_gradient_norm", "seed", "loader_workers", "generated_captions"),
    *("sample_captions", "scored_captions", "level_db", "equaliser_db", "noise_share", "low_pass_share"),
}
_AT_MOST_ONE = {"noise_share", "low_pass_share"}
_BELOW_ONE = {"dropout", "label_smoothing", "beta2"}
_OTHER_NAMES = {"fast": "pretrain_fast"}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainingRecipe:
    """Read a recipe from a YAML file, or a shipped one by its name (`quickstart`), and apply `section.key=value`.

    Raises `UsageError` for a missing file, unknown keys (naming the nearest), wrong types or values, and settings that
    contradict each other.
    """
    values = _read(_found(Path(path)))
    for override in overrides:
        _apply(values, override)
    sections = {name: _section(name, kind, values.get(name) or {}) for name, kind in _SECTIONS.items()}
    recipe = TrainingRecipe(**sections)
    _check(recipe, set(values.get("model") or {}))
    return recipe


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _found(path: Path) -> Path:
    if path.is_file():
        return path
    name = path.name.removesuffix(".yaml")
    shipped = RECIPES / f"{_OTHER_NAMES.get(name, name)}.yaml"
    if path.parent == Path() and shipped.is_file():
        return shipped
    raise UsageError(path, "no such recipe", f"give a YAML file or one of {', '.join(shipped_recipes())}")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the file"
        raise UsageError(path, f"is not YAML ({where}: {getattr(error, 'problem', error)})", "correct it") from error
    except UnicodeDecodeError as error:
        raise UsageError(path, "is not a text file", "a recipe is YAML in UTF-8") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UsageError(path, "holds no sections", f"a recipe has {', '.join(_SECTIONS)}")
    for name, section in values.items():
        if name not in _SECTIONS:
            raise UsageError(path, f"unknown section {name!r}", _nearest(str(name), list(_SECTIONS)))
        if section is not None and not isinstance(section, dict):
            raise UsageError(path, f"section {name} holds {section!r}, expected keys", "write `key: value` lines")
        for key in section or {}:
            if f"{name}.{key}" not in _KEYS:
                raise UsageError(path, f"unknown key {name}.{key}", _nearest(f"{name}.{key}", _KEYS))
    return {name: dict(section or {}) for name, section in values.items()}


def _apply(values: dict[str, dict[str, Any]], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(override, "is no override", "write section.key=value, as in optimisation.updates=100")
    if key not in _KEYS:
        raise UsageError(key, "unknown key", _nearest(key, _KEYS))
    name, _, item = key.partition(".")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(override, "the value is not YAML", "put it in quotes") from error
    section = values.setdefault(name, {})
    section[item] = value
    if value is not None and name == "optimisation":
        for pair in _EITHER_OR:  # choosing one replaces the recipe's choice of the other
            if item in pair:
                section.pop(pair[1 - pair.index(item)], None)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not close:  # the right word in the wrong section, or without one
        close = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _section(name: str, kind: type, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{key: _converted(f"{name}.{key}", value, hints[key]) for key, value in values.items()})


def _converted(key: str, value: Any, hint: Any) -> Any:
    """`value` as YAML gave it, checked against the type hint of its field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _converted(key, value, next(option for option in arguments if option is not type(None)))
    if origin is Literal:
        if value not in arguments:
            raise UsageError(key, f"is {value!r}", f"choose one of {', '.join(arguments)}")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
            raise UsageError(key, f"is {value!r}, expected a list of names", "write [one, two]")
        return tuple(items)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4, without a point, as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise UsageError(key, f"is {value!r}, expected {names[hint]}", "correct the recipe or the override")
    return value


def _check(recipe: TrainingRecipe, model_keys: set[str]) -> None:
    """What no single key can tell."""
    for key in _KEYS:
        name, _, item = key.partition(".")
        value = getattr(getattr(recipe, name), item)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not math.isfinite(value):  # YAML has .nan and .inf, and no comparison below would stop .nan
                raise UsageError(key, f"is {value}", "give a finite number")
            if value < 0 or (value == 0 and item not in _MAY_BE_ZERO):
                raise UsageError(key, f"is {value}", "give a positive number")
            if item in _BELOW_ONE and value >= 1:
                raise UsageError(key, f"is {value}", "give a number from 0 to below 1")
            if item in _AT_MOST_ONE and value > 1:
                raise UsageError(key, f"is {value}", "give a share from 0 to 1")
    if recipe.model.start_from is not None:
        idle = sorted(model_keys - _ACT_WITH_START_FROM)
        if idle:
            raise UsageError(
                f"model.{idle[0]}",
                "has no effect together with model.start_from, whose sizes and tokenizer are taken over",
                "remove one of them",
            )
    elif recipe.model.d_model % recipe.model.attention_heads or recipe.model.d_model % 2:
        raise UsageError(
            "model.d_model",
            f"{recipe.model.d_model} is not even or not a multiple of the {recipe.model.attention_heads} heads",
            "choose another d_model or attention_heads",
        )
    _check_evaluation(recipe.evaluation)
    run = recipe.optimisation
    for first, second in _EITHER_OR:
        if getattr(run, first) is not None and getattr(run, second) is not None:
            raise UsageError(f"optimisation.{first}", f"is given together with {second}", "remove one of them")
    if run.epochs is None and run.updates is None:
        raise UsageError("optimisation", "says neither epochs nor updates", "give one of them")
    if run.clips_per_step is not None and run.batch_size % run.clips_per_step:
        raise UsageError(
            "optimisation.clips_per_step",
            f"{run.clips_per_step} does not divide batch_size {run.batch_size}",
            "choose a divisor of the batch",
        )


def _check_evaluation(evaluation: EvaluationArguments) -> None:
    def needs(item: str, other: str, remedy: str) -> None:
        if getattr(evaluation, item) and not getattr(evaluation, other):
            raise UsageError(f"evaluation.{item}", f"has no effect without evaluation.{other}", remedy)

    for item in ("every_updates", "generated_captions"):
        needs(item, "split", "name a split")
    for item in ("sample_captions", "scored_captions", "best_by"):
        needs(item, "every_updates", "say how often")
    needs("patience", "best_by", "say what decides")
    if evaluation.best_by not in (None, "loss"):
        needs("best_by", "scored_captions", "say how many, or choose loss")
    for name in evaluation.loggers or ():
        if name not in LOGGERS:
            raise UsageError("evaluation.loggers", f"knows no {name}", f"choose of {', '.join(LOGGERS)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
