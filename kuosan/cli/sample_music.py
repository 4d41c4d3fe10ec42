"""What `kuosan sample` can be asked of music: wishes, and files of other kinds than MIDI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.options import at_least
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run, Samples
    from kuosan.recipes.tokens import Rules


def music_rules(
    run: Run, score: dict[str, Any], texts: dict[str, Any], where: dict[str, str]
) -> Rules | None:
    """What music must keep to; None where nothing is asked.

    Raises:
        UserError: wishes about texts, or what `recipes.music_rules.rules_of_music` raises.
    """
    if asked := next((name for name, value in texts.items() if value), None):
        raise UserError(
            f"--{asked.replace('_', '-')} is for texts, and {run.path} is a model of music: leave it away, or give "
            "--given, --voices, --bars or --pitches"
        )
    from kuosan.recipes.music_rules import MusicWishes, rules_of_music

    return rules_of_music(run, MusicWishes(**score), where)


def kept_music(run: Run, score: Mapping[str, Any], where: Mapping[str, str]) -> list[str]:
    """What --voices and --bars mean of rolls, as --keep has it: parts, and bars of the metre that is asked for, or else
    that of what is given.

    Raises:
        UserError: a run over other things, no such part, or no bars.
    """
    asked = [name for name in ("voices", "bars", "pitches") if score[name]]
    if not asked:
        return []
    modality = run.modality
    if modality.files_of != "music":
        raise UserError(f"--{asked[0]} is for music, and {run.path} is no model of music: leave it away")
    if score["pitches"]:
        raise UserError(
            f"--pitches is for music in voices, and {run.path} is a model of rolls: leave it away"
        )
    from kuosan.modalities.music_score import parse_metre

    form, names = modality.form, list(modality.groups)  # type: ignore[attr-defined]
    found = [
        f"group:{names[int(v)] if v.isdecimal() and int(v) < len(names) else v}" for v in score["voices"]
    ]
    given = score["given"]
    usual = modality.read(given).metre if given and given.is_file() else None
    bar = form.bar(parse_metre(where["metre"]) if "metre" in where else usual or form.metre)
    if score["bars"]:
        from kuosan.recipes.music_rules import spans_of_bars

        steps = modality.count("time", score["length"]) if score["length"] else modality.shape[-1]
        found += [f"time:{a}-{b - 1}" for a, b in spans_of_bars(score["bars"], steps, bar)]
    return found


def tokens(run: Path, score: dict[str, Any]) -> int | None:
    """The length of a text that is to be longer than a window; None where it need not be.

    Raises:
        UserError: it is no number, or there are wishes about music.
    """
    length = score["length"]
    if asked := next((name for name, value in score.items() if value and name != "length"), None):
        raise UserError(f"--{asked} is for music, and {run} is no model of music: leave it away")
    if length is None:
        return None
    if not length.isdecimal():
        raise UserError(f"--length {length} is no number of tokens: give a whole number")
    at_least("--length", int(length))
    return int(length)


def formats_of(run: Run, formats: str | None, soundfont: Path | None) -> list[str]:
    """The kinds of files that are written beside the modality's own.

    Raises:
        UserError: an unknown one, no such SoundFont, or one for a run that is not of music.
    """
    if formats is None and soundfont is None:
        return []
    modality = run.modality
    known = modality.formats
    if soundfont is not None and "music" not in (modality.name, modality.files_of):
        raise UserError(f"--soundfont is for music, and {run.path} is no model of music: leave it away")
    if not known:
        raise UserError(f"{modality.noun} are written in one format alone: leave --format away")
    kinds = [kind.strip().lstrip(".").lower() for kind in (formats or "").split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UserError(
            f"{modality.noun} are not written as {unknown[0]}: give --format one or more of {', '.join(known)}"
        )
    if soundfont is not None and not soundfont.is_file():
        raise UserError(f"there is no file {soundfont}: give --soundfont a .sf2 or .sf3 file")
    kinds += ["wav"] if soundfont is not None else []
    return [kind for kind in dict.fromkeys(kinds) if kind != known[0]]


def other_formats(samples: Samples, folder: Path, kinds: list[str], soundfont: Path | None) -> list[Path]:
    """The samples in these formats as well; the files."""
    found = []
    for i, raw in enumerate(samples.raws() if kinds else ()):
        for kind in kinds:
            path = folder / f"{samples.first + i:05d}.{kind}"
            if kind == "wav" and soundfont is not None:
                from kuosan.modalities.music_sound import write_wav

                write_wav(raw, path, soundfont)
            else:
                path = samples.modality.write(raw, path)
            found.append(path)
    return found
