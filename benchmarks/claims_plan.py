"""What the claims table trains and asks: sizes, systems, runs in their order, claims, and how long all of it takes.

Pure data. A system is a way of making a captioner; it is trained once a seed, and each of these trainings is a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dataset_builder.instructions import INSTRUCTIONS

FRACTIONS = {"1": 0.01, "10": 0.1, "100": 1.0}  # of the clips with a reference caption, nested
GROUPS = ("main", "written", "instructions")
REFERENCE = "caption_reference"
PSEUDO = tuple(f"caption_{name}" for name in INSTRUCTIONS)
WRITTEN_BY = {  # variant of the model-written part -> the column that it learns from
    "lm": PSEUDO,
    "tag-concat": ("caption_tag_concat",),
    "template": ("caption_template",),
    "k2c": ("caption_k2c",),
}


@dataclass(frozen=True)
class Sizes:
    """How large a table is. All models, updates and clips follow from it.

    Attributes:
        clips: of the rendered corpus; 80 % are training clips.
        reference_clips: training clips with a reference caption (100 %); no pseudo captions are made of them.
        written_clips: training clips whose tags the language model is given, with all four instructions.
        test_clips, ood_clips: captioned and scored a run, the first of the split; ood is the held-out SoundFont.
        listening_clips: of the test clips, for the audio-dependence test.
        finetune_updates: by fraction of the references, the same for supervised and transfer.
        samples: of the bootstrap; the smallest p is 5e-4, which Holm over 40 tests leaves at 0.02.
    """

    clips: int = 20_000
    reference_clips: int = 2_000
    written_clips: int = 2_000
    test_clips: int = 500
    ood_clips: int = 250
    listening_clips: int = 60
    seeds: int = 3
    pretrain_updates: int = 1_000
    finetune_updates: tuple[int, int, int] = (60, 200, 400)  # 1, 10, 100 %
    batch_size: int = 32
    d_model: int = 128
    layers: int = 2
    attention_heads: int = 4
    vocabulary: int = 2_000
    beams: int = 5
    samples: int = 4_000

    def updates_on(self, fraction: str) -> int:
        """Updates of a training on this part of the references."""
        return self.finetune_updates[list(FRACTIONS).index(fraction)]


SCALES = {
    "full": Sizes(),
    "tiny": Sizes(
        clips=240,
        reference_clips=100,
        written_clips=4,
        test_clips=12,
        ood_clips=6,
        listening_clips=4,
        seeds=2,
        pretrain_updates=3,
        finetune_updates=(2, 2, 2),
        batch_size=4,
        d_model=32,
        layers=1,
        attention_heads=2,
        vocabulary=400,
        beams=1,
        samples=100,
    ),
}


@dataclass(frozen=True)
class System:
    """A way of making a captioner.

    `split` and `captions` are what it learns from, `updates` how long, `starts_from` the system whose weights it takes
    over, and `title` how the tables call it.
    """

    name: str
    group: str
    title: str
    split: str
    captions: tuple[str, ...]
    updates: int
    starts_from: str | None = None


@dataclass(frozen=True)
class Run:
    """One training of a system."""

    system: System
    seed: int

    @property
    def name(self) -> str:
        return f"{self.system.name}-seed{self.seed}"

    @property
    def starts_from(self) -> str | None:
        """The name of the run that has to be there first: the same seed of the system it starts from."""
        before = self.system.starts_from
        return None if before is None else f"{before}-seed{self.seed}"


@dataclass(frozen=True)
class Claim:
    """`better` scores higher than `worse`: a statement that the table tests. `paper` says where the paper has it."""

    better: str
    worse: str
    says: str
    paper: str | None = None


def systems(sizes: Sizes, *, k2c: bool = False) -> tuple[System, ...]:
    """Every system of the table, each after the one it starts from. `k2c` adds the paper's keyword-to-text captions."""
    found: list[System] = []
    for fraction in FRACTIONS:
        found.append(
            System(
                f"supervised-{fraction}",
                "main",
                f"supervised, {fraction} % of the references",
                f"reference_{fraction}",
                (REFERENCE,),
                sizes.updates_on(fraction),
            )
        )
    for fraction in ("10", "100"):
        found.append(
            System(
                f"supervised-long-{fraction}",
                "main",
                f"supervised, {fraction} %, as many updates as pre-training and transfer together",
                f"reference_{fraction}",
                (REFERENCE,),
                sizes.updates_on(fraction) + sizes.pretrain_updates,
            )
        )
    zero_shot = System(
        "zero-shot", "main", "pre-trained on pseudo captions, zero-shot", "pretrain", PSEUDO, sizes.pretrain_updates
    )
    found.append(zero_shot)
    found += [_transfer(zero_shot, fraction, sizes, f"transfer, {fraction} %") for fraction in FRACTIONS]
    names = {"lm": "language model", "tag-concat": "tag concat", "template": "template", "k2c": "K2C"}
    for variant, columns in WRITTEN_BY.items():
        if variant == "k2c" and not k2c:
            continue
        own = System(
            f"written-{variant}",
            "written",
            f"{names[variant]} captions of the same clips, zero-shot",
            "written",
            columns,
            sizes.pretrain_updates,
        )
        found += [own, _transfer(own, "100", sizes, f"{names[variant]} captions, transfer, 100 %")]
    for name, column in zip(INSTRUCTIONS, PSEUDO, strict=True):
        own = System(
            f"only-{name.replace('_', '-')}",
            "instructions",
            f"{name} alone, zero-shot",
            "pretrain",
            (column,),
            sizes.pretrain_updates,
        )
        found += [own, _transfer(own, "10", sizes, f"{name} alone, transfer, 10 %")]
    return tuple(found)


def _transfer(base: System, fraction: str, sizes: Sizes, title: str) -> System:
    return System(
        f"{'transfer' if base.name == 'zero-shot' else f'{base.name}-transfer'}-{fraction}",
        base.group,
        title,
        f"reference_{fraction}",
        (REFERENCE,),
        sizes.updates_on(fraction),
        base.name,
    )


def runs(made: Sequence[System], seeds: int, only: Sequence[str] = ()) -> list[Run]:
    """The runs in their order: group by group within a seed, so that a table cut short has every comparison once.

    `only` names groups; the systems of another group that theirs are compared with come along.
    """
    group = {system.name: system.group for system in made}
    wanted = {system.name for system in made if not only or system.group in only}
    wanted |= {claim.better for claim in claims(made) if group[claim.worse] in only}
    ordered = sorted((system for system in made if system.name in wanted), key=lambda one: GROUPS.index(one.group))
    return [Run(system, seed) for seed in range(seeds) for system in ordered]


def claims(made: Sequence[System]) -> list[Claim]:
    """The statements that are tested, those of the paper among them; all belong to one family of tests."""
    found = [
        Claim(
            f"transfer-{fraction}",
            f"supervised-{fraction}",
            f"transfer > supervised at {fraction} % of the references (same updates on them)",
            "Table 4, section 5.3" if fraction == "100" else None,
        )
        for fraction in FRACTIONS
    ]
    found += [
        Claim(
            f"transfer-{fraction}",
            f"supervised-long-{fraction}",
            f"transfer > supervised at {fraction} % with equal updates in all",
        )
        for fraction in ("10", "100")
    ]
    found += [
        Claim("supervised-100", "zero-shot", "supervised at 100 % > zero-shot", "Table 4"),
        Claim("transfer-100", "zero-shot", "transfer at 100 % > zero-shot", "Table 4"),
    ]
    for variant in ("tag-concat", "template", "k2c"):
        for suffix, words in (("", "zero-shot"), ("-transfer-100", "transfer")):
            found.append(
                Claim(
                    f"written-lm{suffix}",
                    f"written-{variant}{suffix}",
                    f"language-model captions > {variant} captions of the same clips, {words}",
                    "Table 4",
                )
            )
    for name in INSTRUCTIONS:
        slug = name.replace("_", "-")
        found.append(Claim("zero-shot", f"only-{slug}", f"all four instructions > {name} alone, zero-shot"))
        found.append(
            Claim("transfer-10", f"only-{slug}-transfer-10", f"all four instructions > {name} alone, transfer at 10 %")
        )
    names = {system.name for system in made}
    return [claim for claim in found if {claim.better, claim.worse} <= names]


@dataclass(frozen=True)
class Rates:
    """What things cost, in seconds. `seen` says whose figures these are."""

    update_s: float  # of `batch_size` clips
    caption_s: float
    run_s: float  # reading data, loading, scoring: everything else of a run
    render_s: float  # a clip of the corpus
    written_s: float  # an answer of the language model that is asked for
    seen: str


# One core of a 2-core machine with AMX, in seconds of its time: 0.27 an update (32 clips, 64 tokens, d_model 128,
# bfloat16), 0.048 a caption (5 beams, random weights), 2.3 for the cards of 500 clips and 2.5 for a report on 69 runs;
# half of it where both cores work, at nine tenths. SmolLM2-135M gives 2.8 answers/s a core; 8 answers to 5 questions.
REFERENCE_RATES = Rates(
    update_s=0.15, caption_s=0.027, run_s=12.0, render_s=0.05, written_s=0.32, seen="a 2-core machine with AMX"
)


def measured(finished: Sequence[Mapping[str, float]], known: Rates = REFERENCE_RATES) -> Rates:
    """`known` with what the finished runs of this folder took: `updates`, `training_s`, `captions`, `captioning_s`,
    `other_s` of each."""
    updates = sum(one["updates"] for one in finished)
    captions = sum(one["captions"] for one in finished)
    if not updates or not captions:
        return known
    return replace(
        known,
        update_s=sum(one["training_s"] for one in finished) / updates,
        caption_s=sum(one["captioning_s"] for one in finished) / captions,
        run_s=sum(one["other_s"] for one in finished) / len(finished),
        seen=f"the {len(finished)} finished runs here",
    )


def captions_of_a_run(sizes: Sizes) -> int:
    """Captions that a run writes: of test clips, of the held-out SoundFont, and for three substituted sounds."""
    return sizes.test_clips + sizes.ood_clips + 3 * sizes.listening_clips


def run_seconds(run: Run, sizes: Sizes, rates: Rates) -> float:
    """The time that a run is expected to take."""
    return run.system.updates * rates.update_s + captions_of_a_run(sizes) * rates.caption_s + rates.run_s


def material_seconds(sizes: Sizes, rates: Rates) -> float:
    """The time for the corpus and the language model's captions, from nothing."""
    return sizes.clips * rates.render_s + sizes.written_clips * len(INSTRUCTIONS) * rates.written_s
