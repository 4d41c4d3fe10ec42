"""Bytes of unknown origin as text: UTF-8, UTF-16 and -32, and the encodings that came before them.

In this order: a byte-order mark says what it is; UTF-8 is taken where it is valid, for text in another
encoding hardly ever is; letters of Western Europe between plain ones are Windows-1252 (and so Latin-1), and
pairs of bytes from the commonest half of GB2312 are GB18030 (also GBK), however short the text is; else
`charset-normalizer` guesses (Big5, Shift-JIS, Windows-1251 and so on).
Bytes that are mostly valid UTF-8 with a few wrong ones are damaged UTF-8 and no other encoding: a guess would
turn every accent and every ideograph into rubbish, so that is said instead.

The text stays as it is but for one thing: "\\r\\n", the line end of Windows, becomes "\\n".
"""

from __future__ import annotations

import codecs
import re

from kuosan.modalities.base import Unreadable

_MARKS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CANDIDATES = [
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "latin_1", "cp1250", "cp1251", "koi8_r",
    "cp1253", "cp1254", "cp1255", "cp1256", "utf_16_le", "utf_16_be",
]  # fmt: skip
_CONTROL = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")
_RUN = re.compile(rb"[\x80-\xff]+")
_WESTERN = frozenset(
    "àâäáãåæçéèêëíìîïñóòôöõøœúùûüÿßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜ«»°–—‘’“”„…€£§¿¡·©®ªº\xa0\xad"
)
# the rows of GB2312 with punctuation, and with the 3,755 commonest characters in the order of their sound;
# Korean syllables fill only the rows up to 0xC8
_GB_COMMON = frozenset((0xA1, 0xA3, *range(0xB0, 0xD8)))
_GB_ONLY = frozenset(range(0xC9, 0xD8))
_MOST_CONTROL = 0.05  # of the characters of a text
_SAMPLE = 1 << 20  # bytes from which an encoding is guessed

BINARY = "it holds binary data, not text"


def decode_text(data: bytes) -> str:
    """The text in a file's bytes.  Raises `Unreadable` with a plain reason and without a path."""
    text = _decode(data)
    controls = sum(1 for _ in _CONTROL.finditer(text))
    if controls > _MOST_CONTROL * len(text):
        raise Unreadable(BINARY)
    return text.replace("\r\n", "\n")


def _decode(data: bytes) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(name)
            except UnicodeDecodeError as error:
                raise Unreadable(f"it is damaged: not valid {name[:6].upper()} ({_where(error)})") from None
    nulls = data.count(0)
    try:
        if nulls <= _MOST_CONTROL * len(data):
            return data.decode("utf-8")
    except UnicodeDecodeError as error:
        whole = _MULTIBYTE.findall(data)
        wrong = len(_HIGH.findall(_MULTIBYTE.sub(b"", data)))
        if len(whole) > 2 * wrong:
            raise Unreadable(f"it is damaged: not valid UTF-8 ({_where(error)})") from None
    return _guess(data, nulls)


def _where(error: UnicodeDecodeError) -> str:
    return f"{error.reason} at byte {error.start:,}"


def _guess(data: bytes, nulls: int) -> str:
    if nulls:
        return _utf16_without_mark(data)
    runs = _RUN.findall(data)
    if max(map(len, runs)) <= 2:
        western = data.decode("cp1252", "replace")
        if {letter for letter in western if letter > "\x7f"} <= _WESTERN:
            return western
    if all(len(run) % 2 == 0 for run in runs):
        leads = b"".join(run[::2] for run in runs)
        common = sum(lead in _GB_COMMON for lead in leads)
        beyond = sum(lead in _GB_ONLY for lead in leads)
        if (
            common > 0.8 * len(leads)
            and beyond > 0.1 * len(leads)
            and min(b"".join(r[1::2] for r in runs)) > 0xA0
        ):
            return data.decode("gb18030", "replace")
    import charset_normalizer  # only files that are neither pay for it

    best = charset_normalizer.from_bytes(data[:_SAMPLE], cp_isolation=_CANDIDATES).best()
    if best is None:
        raise Unreadable("its encoding is not recognised; save it as UTF-8")
    try:
        return data.decode(best.encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is damaged: not valid {best.encoding} ({_where(error)})") from None


def _utf16_without_mark(data: bytes) -> str:
    """Mostly Latin text in UTF-16: zeros in every other place and nowhere else."""
    for name, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if len(data) % 2 == 0 and zeros.count(0) == data.count(0) > len(data) / 10:
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                break
    raise Unreadable(BINARY)
