"""A `TracksReport` for people: one line a subject, the first few names, what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dataset_builder.leaks import ALLOWABLE_LEAKS, KINDS
from dataset_builder.tracks_report import TracksReport

SHOWN = 5  # names a line; all of them are in the JSON
NO_SPLIT = "(none, becomes train)"

WARNINGS = frozenset({"contradictions", "misspelled?", "spelled variously", "dropped tags", "LEAK"})

Line = tuple[str, str]  # subject and what there is to say


def print_report(report: TracksReport) -> None:
    """Print the report on standard output: a table on a terminal, plain lines elsewhere."""
    lines = [(subject, plain_line(text)) for subject, text in report_lines(report)]
    console = Console()
    if not console.is_terminal:
        width = max(len(subject) for subject, _ in lines)
        for subject, text in lines:
            print(f"{subject:<{width}}  {text}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for subject, text in lines:
        style = "red" if subject == "LEAK" else "yellow" if subject in WARNINGS else ""
        table.add_row(Text(subject, style=style), Text(text))  # as Text: a clip's name is `[ytid]-[0-10]`
    console.print(table)


def plain_line(text: str) -> str:
    """`text` in one line: line ends, signs that steer a terminal and half characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def report_lines(report: TracksReport) -> Iterator[Line]:
    """The lines of the report, without the ones that have nothing to say."""
    yield (
        "tracks",
        f"{report.tracks:,}"
        + "".join(
            f", {name or '(no source)'} {count:,}" for name, count in report.sources.items() if len(report.sources) > 1
        ),
    )
    if report.tracks:
        yield "splits", ", ".join(f"{name or NO_SPLIT} {count:,}" for name, count in report.splits.items())
    tags = report.tags
    without = f"; {_number(tags.without_tags, 'track')} without tags" if tags.without_tags else ""
    yield (
        "tags",
        f"{tags.total:,} ({tags.distinct:,} different); a track has {tags.median_per_track:g} (median), "
        f"at most {tags.most_per_track}{without}",
    )
    yield from _doubts_about_tags(report)
    yield from _audio(report)
    yield from _licences(report)
    yield from _leaks(report)


def _doubts_about_tags(report: TracksReport) -> Iterator[Line]:
    dropped = report.dropped_tags
    if dropped.tracks:
        examples = [f"{repr(tag) if tag else 'an empty one'} of {track}" for track, tag in dropped.examples]
        counts = f"{dropped.empty:,} empty, {dropped.repeated:,} repeated on {_number(dropped.tracks, 'track')}"
        yield "dropped tags", _named(counts, examples, dropped.tracks)
    if report.contradictory_tracks:
        pairs = [
            f"{' + '.join(each.tags)} ({each.tracks:,}, e.g. {each.example})" for each in report.contradictory_tags
        ]
        yield "contradictions", _named(f"on {_number(report.contradictory_tracks, 'track')}", pairs, len(pairs))
    if report.misspelled_tags:
        slips = [f"{each.tag} ({each.tracks:,}) -> {each.suggestion}" for each in report.misspelled_tags]
        yield "misspelled?", _named(f"{_number(len(slips), 'tag')}, left as written", slips, len(slips))
    if report.spelling_variants:
        groups = [" = ".join(f"{each.tag} ({each.tracks:,})" for each in group) for group in report.spelling_variants]
        yield "spelled variously", _named(_number(len(groups), "tag"), groups, len(groups))


def _audio(report: TracksReport) -> Iterator[Line]:
    audio = report.audio
    if audio.embedded:
        yield (
            "audio",
            f"embedded in the table for {_number(audio.embedded, 'track')}, where `lpmc build` does not read it: "
            "save it in files named as `audio_path` says and give their folder as --audio-root",
        )
    if not audio.named:
        if not audio.embedded:
            yield "audio", "the corpus names no files"
    elif audio.missing == audio.named:
        yield (
            "audio",
            f"there is none of the {_number(audio.named, 'file')} under {audio.root} (e.g. {audio.missing_files[0]}); "
            "--audio-root names the folder",
        )
    elif audio.missing:
        there = f"{audio.named - audio.missing:,} of {_number(audio.named, 'file')} under {audio.root}; missing"
        yield "audio", _named(there, audio.missing_files, audio.missing)
    else:
        yield "audio", f"all {_number(audio.named, 'file')} under {audio.root}"


def _licences(report: TracksReport) -> Iterator[Line]:
    for terms in report.licences[:SHOWN]:
        verdict = "audio may be published" if terms.audio_publishable else "audio may not be published"
        yield "licence", f"{terms.licence or 'none stated'}: {_number(terms.tracks, 'track')}, {verdict}"
    if len(report.licences) > SHOWN:
        rest = report.licences[SHOWN:]
        free = sum(terms.tracks for terms in rest if terms.audio_publishable)
        total = sum(terms.tracks for terms in rest)
        yield "", f"{len(rest)} more: {_number(total, 'track')}, the audio of {free:,} of them may be published"


def _leaks(report: TracksReport) -> Iterator[Line]:
    for kind, count in report.leaks.by_kind.items():
        items = [leak for leak in report.leaks.leaks if leak.kind == kind]
        names = [f"{leak.item} ({leak.training_tracks:,}, e.g. {leak.example})" for leak in items]
        yield "LEAK", _named(f"{_number(count, 'training track')} {KINDS[kind]}", names, len(names))
    if report.leaks:
        grave = report.leaks.by_kind.keys() - ALLOWABLE_LEAKS
        keep = "" if grave else "; with --leaks allow it keeps them, as official splits that share artists need it"
        yield "", f"`lpmc build` refuses them; with --leaks drop it leaves these training tracks out{keep}"
    if report.leaks.between_evaluations:
        shared = ", ".join(f"{_number(n, kind)}" for kind, n in report.leaks.between_evaluations.items())
        yield "evaluation splits", f"share {shared}"
    if not report.leaks and len(report.splits) > 1:
        yield "leaks", "none: training and evaluation splits share no track, recording or artist that is named"


def _named(counts: str, names: Iterable[str], total: int) -> str:
    shown = list(names)[:SHOWN]
    more = f", and {total - len(shown):,} more" if total > len(shown) else ""
    return f"{counts}: {', '.join(shown)}{more}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
