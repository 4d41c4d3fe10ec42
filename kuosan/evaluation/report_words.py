"""Numbers as a reader wants them, and measurements as sentences.

A distance alone says nothing: 3.1 may be excellent at n = 200 and poor at n = 10,000. So each measurement m
is held against its floor f, the same measurement of real items against real items at the same n, and the
difference is judged by the two standard errors together:

    z = (m − f) / sqrt(se_m² + se_f²)                                                  (1)

|z| ≤ 2 reads "as close as real … are to each other". Beyond it the ratio m/f is said, unless the floor is
not clearly above zero (an unbiased kernel distance scatters around it), where a ratio would be noise and the
difference is given in standard errors instead. Being *closer* than real items are to each other is no
triumph: it is what copies look like, and the sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

AGREES = 2.0  # standard errors, eq. 1
VARIETY = (  # both sides are faults
    "entropy_", "distinct_", "self_bleu", "repetition", "jerk", "diversity", "vendi", "pairwise", "graph_variety",
)  # fmt: skip

EITHER = ("groove", "notes_per_bar", "voice_range")  # so they are with these, which are no variety
FAULTS = (
    "parallel_",
    "crossings_",
    "out_of_range_",
    "faults_",
    "foot_skating",
    "joint_limit",
)  # not distances

# prefix of a metric's name → (title, what it asks); the rest of the name is its feature space.
METRICS: dict[str, tuple[str, str]] = {
    "enlarged_psnr": (
        "Enlarged: signal to noise",
        "How near, in decibels, do enlarged {noun} come to the true ones?",
    ),
    "bicubic_psnr": ("The same of bicubic interpolation", "What plain interpolation reaches."),
    "enlarged_ssim": ("Enlarged: structural similarity", "The same of structure; 1 is the true picture."),
    "bicubic_ssim": ("The same of bicubic interpolation", "What plain interpolation reaches."),
    "enlarged_fd": ("Enlarged: Fréchet distance", "Do enlarged {noun} look like any real ones?"),
    "bicubic_fd": ("The same of bicubic interpolation", "What plain interpolation reaches."),
    "enlarged_off": ("Averages", "How far, in levels, are averages of enlarged {noun} from the small ones?"),
    "map_accuracy": (
        "Labels as asked",
        "Does a segmenter trained on real {noun} see what the map asked for?",
    ),
    "map_by_chance": ("Control: maps of others", "The same against maps that were not asked for."),
    "codec_psnr": ("Peak signal to noise", "How near, in decibels of the data's range, do {noun} come back?"),
    "codec_mse": (
        "Mean squared error",
        "The same as an error per number of a state, in the data's own unit squared.",
    ),
    "codec_log_spectral_distance": (
        "Log-spectral distance",
        "How many decibels are the spectra of {noun} off after a round trip?",
    ),
    "codec_si_sdr": (
        "SI-SDR",
        "How near are the samples themselves? Without phases never near, and not what ears hear.",
    ),
    "codec_class_accuracy": (
        "Recognised as before",
        "Does a classifier still see the class of real {noun} after a round trip?",
    ),
    "codec_fd": ("Fréchet distance", "How far does the codec alone move the features of real {noun}?"),
    "fd_inf": ("Fréchet distance, n → ∞", "The same, with the bias of a finite sample extrapolated away."),
    "fd": ("Fréchet distance", "Do mean and covariance of the features match those of real {noun}?"),
    "kd_rbf": ("Kernel distance, Gaussian", "The same question, asked with a kernel that sees fine detail."),
    "kd": ("Kernel distance", "Do samples and real {noun} come from one distribution? (unbiased MMD²)."),
    "swd": ("Sliced Wasserstein distance", "Do samples and real {noun} lie alike along every direction?"),
    "c2st": (
        "Told apart by a classifier",
        "How often does a classifier, held out, tell samples from real {noun}? A half is chance.",
    ),
    "precision": ("Precision", "How many samples lie where real {noun} lie?"),
    "recall": ("Recall", "How many real {noun} lie where samples lie?"),
    "density": ("Density", "How densely do samples sit among real {noun}? Robust to outliers."),
    "coverage": ("Coverage", "How many real {noun} have a sample close by?"),
    "vendi": ("Vendi score", "How many different {noun} are there, effectively?"),
    "pairwise_within": (
        "Distance within conditions",
        "How far apart are two {noun} of one condition, on average?",
    ),
    "pairwise_between": ("Distance between conditions", "The same of two of different conditions."),
    "pairwise": ("Distance of pairs", "How far apart are two {noun}, on average?"),
    "class_frequency": (
        "Classes by themselves",
        "Asked for nothing, what share of {noun} would have to be of another class to be as real ones?",
    ),
    "class_accuracy": (
        "Recognised as asked",
        "Does a classifier trained on real {noun} see the class asked for?",
    ),
    "accuracy": (
        "Recognised as asked",
        "The same of another condition, by a classifier of its own.",
    ),
    "caption_retrieval": (
        "Caption found again",
        "Shown a sample, does a matcher trained on real {noun} pick its caption from several held-out ones?",
    ),
    "entropy_characters": ("Entropy of characters", "How many bits of variety have single characters?"),
    "entropy_words": ("Entropy of words", "How many bits of variety have single words?"),
    "distinct_1": ("Distinct words", "What share of all words are different ones?"),
    "distinct_2": ("Distinct pairs of words", "What share of all pairs of words are different ones?"),
    "distinct_3": ("Distinct triples of words", "The same of three in a row."),
    "distinct_4": ("Distinct quadruples of words", "The same of four in a row."),
    "self_bleu": ("Self-BLEU", "How much do texts repeat one another?"),
    "repetition": ("Repetition", "How much does a text repeat itself?"),
    "known_words": ("Known words", "What share of the words stands in the training text?"),
    "longest_span": (
        "Longest copied passage",
        "How many characters in a row does a text share with the training text?",
    ),
    "mauve": ("MAUVE", "How much of real {noun} do samples cover, and the other way round?"),
    "bits_per_character": ("Bits per character", "How surprised is the model by {noun} it has not seen?"),
    "bits_per_room": ("Bits per room", "How surprised is the model by {noun} it has not seen?"),
    "valid": ("Valid as drawn", "What share keeps all rules of a plan before anything is mended?"),
    "room_count_overlap": (
        "Numbers of rooms",
        "How much do histograms of how many rooms there are overlap with real {noun}?",
    ),
    "room_use_overlap": ("Uses of rooms", "The same of what rooms are for."),
    "room_area_overlap": ("Areas of rooms", "The same of their share of the plan, by use."),
    "plan_area_overlap": ("Areas of plans", "The same of square metres of the whole."),
    "door_overlap": ("Doors", "The same of which uses doors join."),
    "graph_distance": (
        "Changes to a real graph",
        "How many rooms and doors must change to have those of a real plan?",
    ),
    "graph_variety": ("Variety of graphs", "How much do rooms and doors of two {noun} differ?"),
    "bits_per_note": ("Bits per note", "How surprised is the model by {noun} it has not seen?"),
    "pitch_class_overlap": (
        "Pitch classes",
        "How much do histograms of pitch classes overlap with real {noun}?",
    ),
    "interval_overlap": ("Melodic intervals", "The same of steps and leaps within voices."),
    "duration_overlap": ("Durations", "The same of how long notes last."),
    "onset_overlap": ("Places in the bar", "The same of where in the bar notes begin."),
    "loudness_overlap": ("Loudness", "How much do histograms of loudness overlap with real {noun}?"),
    "silence_overlap": ("Silence", "The same of the share of each that is silent."),
    "brightness_overlap": ("Brightness", "The same of the spectral centroid."),
    "seconds_overlap": ("Length", "The same of how long they are."),
    "groove": ("Groove", "How much rhythm does a bar share with the next?"),
    "notes_per_bar": ("Notes per bar", "How busy is it?"),
    "voice_range": ("Range of a voice", "How many semitones does a voice use?"),
    "parallel_fifths_per_bar": ("Parallel fifths", "How often do two voices move together a fifth apart?"),
    "parallel_octaves_per_bar": ("Parallel octaves", "The same of octaves and unisons."),
    "crossings_per_bar": ("Crossings", "How often does a voice sound on the wrong side of another?"),
    "out_of_range_per_bar": ("Out of range", "How many notes has no training piece in that voice?"),
    "faults_per_bar": ("Faults of voice leading", "All of these together, per bar."),
    "key_accuracy": ("Key as asked", "Is the key found in it that was asked for?"),
    "shuffled": (
        "Control: frames shuffled",
        "The distance of real {noun} with shuffled frames: a space that sees time puts them far off.",
    ),
    "motion_distance": ("Motion", "Does as much change from frame to frame as in real {noun}?"),
    "flicker_distance": ("Flicker", "Is as much of each change taken back at once?"),
    "spectrum_distance": ("Temporal spectrum", "Are fast changes as large a share of all as in real {noun}?"),
    "bits_per_token": ("Bits per token", "The same, per token."),
    "foot_skating": ("Foot skating", "How fast do feet slide while they stand, in metres per second?"),
    "jerk": ("Jerk", "How abruptly do joints change their course, in metres per second³?"),
    "joint_limit_violations": ("Joint limits", "What share of joints bends further than real {noun} do?"),
    "diversity": ("Diversity", "How far apart are two {noun}, on average?"),
    "nna": (
        "Told from real ones",
        "How often is an item's nearest neighbour of its own kind, sample or real? ½ is chance (1-NNA).",
    ),
    "mmd": ("Minimum matching distance", "How far is the nearest sample from a real item, on average?"),
    "watertight": ("Watertight", "How many have a closed surface, as printers need it?"),
    "one_piece": ("Of one piece", "How many hang together?"),
    "volume_gap": ("Volumes", "How far are volumes from those of real {noun}, relative to their mean?"),
    "area_gap": ("Surface areas", "The same of the areas of surfaces."),
    "tstr_accuracy": (
        "Taught by samples",
        "How many held-out {noun} does a classifier know that only saw samples? Its floor learned from real ones.",
    ),
    "value_distance": ("Values", "How far are values from those of real {noun}, in their unit?"),
    "implausible": (
        "Implausible values",
        "How many are darker or brighter than any real {noun}, in some part?",
    ),
    "copies": ("Near-copies", "How many samples lie closer to a training item than held-out {noun} do?"),
    "nearest_distance": (
        "Distance to training",
        "How far from the nearest training item is a sample, on average?",
    ),
    **{
        f"{prefix}_{name}": (title, "How surprised is the model by {noun} it has not seen?")
        for prefix in ("bits", "nll")
        for name, title in (
            ("bound", "Evidence bound"),
            ("train", "Evidence bound, training items"),
            ("10_steps", "Evidence bound in 10 steps"),
            ("25_steps", "Evidence bound in 25 steps"),
            ("50_steps", "Evidence bound in 50 steps"),
            ("flow", "Probability flow"),
        )
    },
}
ABBREVIATIONS = {"val": "validation", "lr": "learning rate", "snr": "SNR"}


def count(n: float) -> str:
    """1437 → "1,437"."""
    return f"{int(n):,}"


def number(value: float, stderr: float | None = None) -> str:
    """`value`, to two digits of its standard error where there is one, else to four significant digits."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e6):
        digits = max(0, _exponent(size) - _exponent(stderr) + 1) if usable(stderr) else 2
        mantissa, exponent = f"{value:.{min(digits, 9)}e}".split("e")
        return f"{mantissa}×10{_superscript(int(exponent))}".replace("-", "−")
    places = 1 - _exponent(stderr) if usable(stderr) else (3 - _exponent(size) if size else 0)
    return f"{value:,.{min(max(places, 0), 12)}f}".replace("-", "−")


def error(stderr: float) -> str:
    """A standard error, to two digits."""
    return number(stderr, stderr if stderr else None)


def duration(seconds: float) -> str:
    """183.2 → "3 min 3 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def label(key: str) -> str:
    """`val_loss` → "Validation loss": a key of ours as a heading, where nobody has written a better one."""
    words = [ABBREVIATIONS.get(word, word) for word in key.replace("_", " ").split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


_COUNTED = {
    "unigram": "characters alone",
    "voice_unigram": "single tokens of a voice",
    "voice_bigram": "each after the one before",
    "voice_bigram_beat": "the same, by the beat",
}


def baseline(name: str) -> str:
    """A model that needs no training, for people: see `writing.baselines` and `music.baselines`."""
    words = name.replace("kneser_ney", "Kneser–Ney").replace("_", " ")
    return _COUNTED.get(name, words.replace("given train", "given the training texts"))


def metric_title(name: str, noun: str) -> tuple[str, str]:
    """A metric's title and the question that it answers ("" for one we have no words for)."""
    for prefix, (title, question) in METRICS.items():
        if name == prefix or name.startswith(f"{prefix}_"):
            return title, question.format(noun=noun)
    return label(name), ""


def usable(x: float | None) -> TypeGuard[float]:
    """Is there a positive finite number?"""
    return x is not None and math.isfinite(x) and x > 0


def verdict(metric: Mapping[str, Any], noun: str = "pictures", name: str = "") -> str:
    """The sentence beside a measurement that has a floor; "" without one (module docstring, eq. 1).

    `metric` has `value`, and may have `stderr`, `floor`, `floor_stderr` and `better` ("lower" or "higher").
    """
    value, floor = metric.get("value"), metric.get("floor")
    if value is None or floor is None or not (math.isfinite(value) and math.isfinite(floor)):
        return ""
    spread = math.hypot(float(metric.get("stderr") or 0), float(metric.get("floor_stderr") or 0))
    higher = metric.get("better") == "higher"
    z = (value - floor) / spread if spread > 0 else math.copysign(math.inf, value - floor)
    if value == floor or abs(z) <= AGREES:
        return _agrees(higher, noun, name)
    if name.startswith("nearest_distance"):
        far = "farther from" if value > floor else "nearer to"
        return f"{value / floor:.0%} of the usual: {far} the training data than held-out real {noun}"
    if name.startswith(VARIETY):
        more = "less varied than" if (value < floor) == higher else "more varied than"
        return f"{more} real {noun}" + (": noise" if (value > floor) == higher else "")
    if name.startswith(EITHER):
        return f"{'more' if value > floor else 'less'} than in real {noun}"
    if name.startswith("longest_span"):
        return f"{'longer' if value > floor else 'shorter'} than what other real {noun} share with training"
    if (value < floor) != higher:  # on the far side of real against real
        if higher:
            return f"above what real {noun} reach: samples are more typical than life"
        if name.startswith("copies"):
            return f"fewer than among held-out real {noun}"
        if name.startswith(FAULTS):
            return f"less than in real {noun}"
        return f"closer than real {noun} are to each other: look for copies below"
    clear = floor > AGREES * float(metric.get("floor_stderr") or 0) and floor > 0
    if higher:
        return f"{value / floor:.0%} of what real {noun} reach" if clear else "less than the floor"
    if clear:
        ratio = value / floor
        return f"{ratio:.1f}× the floor" if ratio < 10 else f"{ratio:,.0f}× the floor"
    return f"above the floor by {z:.0f} standard errors" if math.isfinite(z) else "above the floor"


def _agrees(higher: bool, noun: str, name: str) -> str:
    if name.startswith(VARIETY):
        return f"as varied as real {noun}"
    if name.startswith(EITHER):
        return f"as in real {noun}"
    if name.startswith("longest_span"):
        return f"no longer than what other real {noun} share with training"
    if name.startswith("nearest_distance"):
        return f"as far from the training data as held-out real {noun}"
    if name.startswith("copies"):
        return f"no more than among held-out real {noun}"
    return f"as good as real {noun}" if higher else f"as close as real {noun} are to each other"


def _exponent(x: float) -> int:
    return math.floor(math.log10(abs(x))) if x else 0


def _superscript(n: int) -> str:
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def steps_in_words(count: int) -> str:
    """1 step, 20 steps."""
    return f"{count:,} step{'' if count == 1 else 's'}"
