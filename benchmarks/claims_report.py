"""The report on the claims table, from what lies in its folder: claims.md, claims.json and learning_curves.png.

Written anew after each run; a table with runs missing says so on top and at every row.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims_plan import FRACTIONS, Claim, Sizes, System
from benchmarks.claims_runs import finished, run_folder
from benchmarks.claims_scores import EXACT, EXACT_F1, REPORTED, load_rows
from benchmarks.claims_statistics import DECIDES, Estimate, Rows, Tested, draw, estimates, judged_claims
from lpmc_errors import MissingExtraError
from lpmc_files import atomic_path, write_json, write_text

SETS = {"test": "held-out arrangements", "ood": "the same arrangements, played by the held-out SoundFont"}
CURVES = "learning_curves.png"
LINES = {"supervised": "supervised-{}", "supervised, long": "supervised-long-{}", "transfer": "transfer-{}"}
ZERO_SHOT = "zero-shot"
SECTIONS = {
    "main": "Supervised, zero-shot, transfer",
    "written": "The model-written part alone, captions of the same clips (the paper's Table 4)",
    "instructions": "Each instruction alone against all four",
}
# Okabe and Ito's colours; every line has a mark and a dash of its own as well.
STYLES = (("#0072B2", "o", "-"), ("#56B4E9", "s", "--"), ("#D55E00", "^", "-"))
DOTS = 150  # a PNG's dots an inch


def write_report(
    folder: Path,
    systems: Sequence[System],
    claims: Sequence[Claim],
    sizes: Sizes,
    material: Mapping[str, Any],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """Write the report on the finished runs and return what claims.json holds. Raises `DiskError`."""
    notes = {
        (system.name, seed): note
        for system in systems
        for seed in range(sizes.seeds)
        if (note := _note(folder, system, seed)) is not None
    }
    sets = {name: found for name in SETS if (found := _on_set(folder, name, notes, claims, sizes))}
    report = {
        "complete": len(notes) == len(systems) * sizes.seeds,
        "runs_done": len(notes),
        "runs": len(systems) * sizes.seeds,
        "failures": dict(failures),
        "material": dict(material),
        "systems": {system.name: _system(system, notes, sizes) for system in systems},
        "sets": {name: _as_json(found) for name, found in sets.items()},
        "listening": _listening(folder, systems, notes),
        "hours": sum(note["training_s"] + note["captioning_s"] + note["other_s"] for note in notes.values()) / 3600,
        "machine": {"python": platform.python_version(), "machine": platform.machine()},
    }
    write_json(folder / "claims.json", report)
    figure = _plot(folder / CURVES, sets) if sets else "no run is done yet"
    write_text(folder / "claims.md", _markdown(report, sets, systems, sizes, figure))
    return report


def _note(folder: Path, system: System, seed: int) -> dict[str, Any] | None:
    from benchmarks.claims_plan import Run

    return finished(folder, Run(system, seed))


def _on_set(
    folder: Path, name: str, notes: Mapping[tuple[str, int], Any], claims: Sequence[Claim], sizes: Sizes
) -> dict[str, Any]:
    """Estimates, tested claims and blind rows on one set of clips; empty where no run has captioned it."""
    rows: dict[str, dict[int, Any]] = {}
    cards: dict[str, dict[int, Any]] = {}
    for system, seed in notes:
        place = run_folder(folder, f"{system}-seed{seed}")
        if (place / f"rows-{name}.npz").is_file():
            rows.setdefault(system, {})[seed] = load_rows(place / f"rows-{name}.npz")
            cards.setdefault(system, {})[seed] = json.loads((place / "scores.json").read_text("utf-8"))[name]
    if not rows:
        return {}
    typed: Rows = rows
    drawn = draw(typed, sizes.samples)
    return {
        "n": len(next(iter(next(iter(rows.values())).values()))),
        "estimates": estimates(drawn),
        "claims": judged_claims(drawn, claims, sizes.seeds),
        "blind": _blind(cards),
        "cards": {system: dict(own) for system, own in cards.items()},
    }


def _blind(cards: Mapping[str, Mapping[int, Any]]) -> dict[str, dict[str, Any]]:
    """The rows that need no captioner: those of the references are the same for every run, so one card has them."""
    card = next(iter(next(iter(cards.values())).values()))
    found: dict[str, dict[str, Any]] = {}
    for truth, prefix in (("references", ""), ("exact", EXACT)):
        for row, values in card[truth]["blind"].items():
            if row != "own_shuffled":
                found.setdefault(row, {}).update({prefix + key: value for key, value in values.items()})
    return found


def _beaten(card: Mapping[str, Any]) -> bool:
    """Whether the run beats every blind row, its own captions on other clips too, on the facts of both kinds."""
    rows = [card[truth]["beats_blind"].get("facts_f1", {}) for truth in ("references", "exact")]
    return all(rows) and all(found["beaten"] for row in rows for found in row.values())


def _system(system: System, notes: Mapping[tuple[str, int], Any], sizes: Sizes) -> dict[str, Any]:
    own = {seed: note for (name, seed), note in notes.items() if name == system.name}
    one: Mapping[str, Any] = next(iter(own.values()), {})
    return {
        "title": system.title,
        "group": system.group,
        "split": system.split,
        "captions": list(system.captions),
        "starts_from": system.starts_from,
        "updates": system.updates,
        "clips_heard": system.updates * sizes.batch_size,
        "different_clips": one.get("train_clips"),
        "seeds": sorted(own),
        "training_s": {seed: note["training_s"] for seed, note in own.items()},
        "loss": {seed: note["loss"] for seed, note in own.items()},
    }


def _listening(folder: Path, systems: Sequence[System], notes: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
    """Per system the audio-dependence verdicts of its seeds, and how much each substitute loses in facts F1."""
    found: dict[str, Any] = {}
    for system in systems:
        reports = [
            json.loads((run_folder(folder, f"{system.name}-seed{seed}") / "listening.json").read_text("utf-8"))
            for name, seed in notes
            if name == system.name
        ]
        if not reports:
            continue
        substitutes = [one["name"] for one in reports[0]["conditions"] if one["kind"] == "substitute"]
        losses = {name: [_loss(report, name) for report in reports] for name in substitutes}
        found[system.name] = {
            "n": reports[0]["n"],
            "verdicts": [report["verdict"] for report in reports],
            "facts_f1_lost": losses,
        }
    return found


def _loss(report: Mapping[str, Any], name: str) -> float | None:
    loss = next(one for one in report["conditions"] if one["name"] == name)["losses"]["facts_f1"]["value"]
    return None if loss is None else float(loss)


def _as_json(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": found["n"],
        "scores": {
            system: {name: one.to_dict() for name, one in scores.items()}
            for system, scores in found["estimates"].items()
        },
        "claims": [one.to_dict() for one in found["claims"]],
        "blind": found["blind"],
    }


# --- the text -------------------------------------------------------------------------------------------------------


def _markdown(
    report: Mapping[str, Any],
    sets: Mapping[str, Mapping[str, Any]],
    systems: Sequence[System],
    sizes: Sizes,
    figure: str | None,
) -> str:
    lines = ["# Does training on pseudo captions help? On a rendered corpus", ""]
    if not report["complete"]:
        lines += [f"**Partial: {report['runs_done']} of {report['runs']} runs are done.**", ""]
    lines += [f"- failed: {name}: {why}" for name, why in report["failures"].items()]
    lines += [*_material_lines(report, sizes), ""]
    for name, found in sets.items():
        lines += [f"## Claims on `{name}`: {SETS[name]} ({found['n']} clips)", ""]
        lines += _claim_lines(found["claims"]) or ["No claim has both of its systems yet."]
        lines.append("")
    for name, found in sets.items():
        lines += [f"## Scores on `{name}` ({found['n']} clips)", ""]
        for group, title in SECTIONS.items():
            rows = [system for system in systems if system.group == group]
            if group == "instructions":  # what each is compared with
                rows = [system for system in systems if system.name in (ZERO_SHOT, "transfer-10")] + rows
            lines += [f"### {title}", "", *_score_table(rows, report, found, sizes), ""]
    if figure is None:
        lines += ["## Learning curves", "", f"![facts F1 by share of the references]({CURVES})", ""]
    else:
        lines += ["## Learning curves", "", f"No picture: {figure}.", ""]
    for name, found in sets.items():
        lines += [f"`{name}`, facts F1 against the exact facts:", "", *_curve_table(found["estimates"]), ""]
    lines += ["## Do they listen?", "", *_listening_table(report, systems), "", *_how_made(report, sets, sizes)]
    return "\n".join(lines) + "\n"


def _material_lines(report: Mapping[str, Any], sizes: Sizes) -> list[str]:
    found = report["material"]
    if not found:
        return []
    clips = found["clips"]
    writers = ", ".join(f"{name}: {count}" for name, count in found["pretrain_clips_by_writer"].items())
    return [
        f"- Pre-training: {clips['pretrain']} rendered clips with pseudo captions of four instructions. Clips by who "
        f"wrote their captions (a clip may have both): {writers}.",
        f"- Model-written part: {found['tag_sets_asked']} tag sets were given to the language model; for "
        f"{clips['written']} clips at least one caption was kept "
        f"({', '.join(f'{name[8:]} {count}' for name, count in found['written_captions'].items())}). The others of a "
        "kind are absent there; tag concat and template have one caption a clip.",
        f"- References: {clips['reference_100']} other training clips with one caption each in a second style, "
        "written by a grammar of its own from the exact facts, standing for people's "
        f"(10 %: {clips['reference_10']}, 1 %: {clips['reference_1']} clips, nested).",
        f"- SoundFonts: {', '.join(found['soundfonts'])}; held out: {found['held_out_soundfont'] or 'none installed'}.",
        "- K2C: " + (f"{found['k2c']}." if found["k2c"] else "not made, no keyword-to-text model was given (--k2c)."),
        f"- Models: d_model {sizes.d_model}, {sizes.layers}+{sizes.layers} layers, one tokenizer for all (trained on "
        f"all training captions), batches of {sizes.batch_size}, {sizes.beams} beams. Systems that are compared made "
        "the same number of updates on batches of the same size; where not, the name of the row says so.",
    ]


def _claim_lines(claims: Sequence[Tested]) -> list[str]:
    return [f"- {one.sentence()}" for measure in DECIDES for one in claims if one.measure == measure]


def _score_table(
    rows: Sequence[System], report: Mapping[str, Any], found: Mapping[str, Any], sizes: Sizes
) -> list[str]:
    names = [name for name in REPORTED if any(name in one for one in found["estimates"].values())]
    lines = [
        "| system | updates | clips, different | seeds | " + " | ".join(names) + " | beats every blind row |",
        "|" + "---|" * (len(names) + 5),
    ]
    for system in rows:
        of = report["systems"][system.name]
        cells = [f"{of['updates']}", f"{of['clips_heard']}, {of['different_clips'] or '-'}"]
        scores = found["estimates"].get(system.name)
        if scores is None:
            lines.append(f"| {system.title} | {' | '.join(cells)} | 0 of {sizes.seeds} |" + " |" * (len(names) + 1))
            continue
        own = found["cards"][system.name].values()
        cells += [f"{len(of['seeds'])} of {sizes.seeds}", *(_cell(scores.get(name)) for name in names)]
        cells.append(f"{sum(map(_beaten, own))} of {len(own)} seeds")
        lines.append(f"| {system.title} | " + " | ".join(cells) + " |")
    for row, values in found["blind"].items():
        cells = ["-" if values.get(name) is None else f"{100 * values[name]:.1f}" for name in names]
        lines.append(f"| blind: {row} | - | - | - | " + " | ".join(cells) + " | - |")
    return lines


def _cell(one: Estimate | None) -> str:
    if one is None or one.value != one.value:
        return "-"
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _curve_table(scores: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    lines = ["| | " + " | ".join(f"{name} %" for name in FRACTIONS) + " |", "|" + "---|" * (len(FRACTIONS) + 1)]
    for title, pattern in LINES.items():
        cells = [_cell(scores.get(pattern.format(name), {}).get(EXACT_F1)) for name in FRACTIONS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    zero = _cell(scores.get(ZERO_SHOT, {}).get(EXACT_F1))
    lines.append(f"| zero-shot (0 %) | {' | '.join([zero] * len(FRACTIONS))} |")
    return lines


def _listening_table(report: Mapping[str, Any], systems: Sequence[System]) -> list[str]:
    lines = [
        "| system | clips | depends on the audio | lost with noise | silence | another clip |",
        "|---|---|---|---|---|---|",
    ]
    for system in systems:
        found = report["listening"].get(system.name)
        if found is None:
            continue
        lost = [
            ", ".join("-" if value is None else f"{100 * value:+.1f}" for value in found["facts_f1_lost"][name])
            for name in ("noise", "silence", "other clip")
        ]
        yes = sum(verdict == "depends on the audio" for verdict in found["verdicts"])
        verdict = f"{yes} of {len(found['verdicts'])} seeds"
        if "too few clips" in found["verdicts"]:
            verdict = "too few clips"
        lines.append(f"| {system.title} | {found['n']} | {verdict} | " + " | ".join(lost) + " |")
    return [*lines, "", "Facts F1 against the references, real sound less substitute, seed by seed, x100."]


def _how_made(report: Mapping[str, Any], sets: Mapping[str, Any], sizes: Sizes) -> list[str]:
    signature: dict[str, str] = next(
        (next(iter(own.values()))["signature"] for one in sets.values() for own in one["cards"].values()), {}
    )
    lines = [
        "## How the numbers are made",
        "",
        "- Fractions x100, mean over seeds, with 95 % intervals of a bootstrap over clips (the same draws for all "
        f"systems) and seeds ({sizes.samples} draws; with {sizes.seeds} seeds their spread is underestimated).",
        f"- `{EXACT_F1}`: against the clip's tags, all of which are true. A caption that names more of them wins, so "
        "a system taught lists has an advantage there. But a bare word that is not only a genre (`metal`, `house`, "
        "`soul`) is read as one in a sentence alone, which takes these from tag concat and template. `facts_f1` and "
        "the paper's scores are against the references.",
        f"- A claim holds where its p over clips and seeds, corrected after Holm over all claims on "
        f"{' and '.join(DECIDES)} of its set, is at most 0.05 with the difference as claimed; it does not hold where "
        "that is so the other way round.",
        "- Blind rows for exact facts are dealt out from the tag lists, the others from the references; "
        "`beats every blind row` includes the run's own captions on other clips, for facts F1 against both truths.",
        f"- Hours of the finished runs: {report['hours']:.2f}.",
    ]
    return lines + [f"- {name}: `{signature[name]}`" for name in (*REPORTED[1:], "blind") if name in signature]


def _plot(path: Path, sets: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Draw facts F1 over the share of references, a panel a set; returns why not, if not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return MissingExtraError("matplotlib", extra="plot").problem
    figure = Figure(figsize=(5.0 * len(sets), 4.2), layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axes, (name, found) in zip(panels, sets.items(), strict=True):
        scores = found["estimates"]
        for (title, pattern), (colour, mark, dash) in zip(LINES.items(), STYLES, strict=True):
            points = [
                (100 * share, scores[pattern.format(part)][EXACT_F1])
                for part, share in FRACTIONS.items()
                if pattern.format(part) in scores
            ]
            if points:
                values = [100 * one.value for _, one in points]
                ends = [
                    [100 * (one.value - one.low) for _, one in points],
                    [100 * (one.high - one.value) for _, one in points],
                ]
                clipped = [[max(0.0, end) for end in side] for side in ends]
                axes.errorbar(
                    [share for share, _ in points],
                    values,
                    clipped,
                    color=colour,
                    marker=mark,
                    ls=dash,
                    capsize=3,
                    label=title,
                )
        if ZERO_SHOT in scores:
            axes.axhline(100 * scores[ZERO_SHOT][EXACT_F1].value, color="#000000", ls=":", label="zero-shot")
        blind = found["blind"].get("shuffled", {}).get(EXACT_F1)
        if blind is not None:
            axes.axhline(100 * blind, color="#888888", ls="-.", label="blind: another clip's tags")
        axes.set_xscale("log")
        axes.set_xticks([100 * share for share in FRACTIONS.values()], [f"{part} %" for part in FRACTIONS])
        axes.set_xlabel("share of the reference captions")
        axes.set_title(f"{name}: {SETS[name]}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("facts F1 against the exact facts (%)")
    panels[0].legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DOTS)
    return None
