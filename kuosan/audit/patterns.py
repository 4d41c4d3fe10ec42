"""The patterns of identifiers.py: what identifying words look like in English and in Chinese.

Every pattern may have a group `it`, which is then the finding, so that "Name: Jane Doe" finds "Jane Doe". Patterns
favour finding too much: a false alarm costs a glance, a miss may cost a person. Check digits, where a number has them
(Chinese identity numbers, ISO 7064; payment cards, Luhn), are asked for, since without them every long number
would be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_NAME = r"(?:[A-Z]['’])?[A-Z][a-zà-öø-ÿ]+(?:['’\-][A-Z]?[a-zà-öø-ÿ]+)*"
_NAMES = rf"{_NAME}(?:[ ]+(?:(?:van|von|de|der|del|della|di|da|la|le|bin|ibn|al)[ ]+)?(?:[A-Z]\.|{_NAME}))"
_TITLE = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Doctor|Prof|Professor|Sir|Dame|Madam|Rev|Reverend|Father|Sister|Nurse|Judge|Justice|"
    r"Senator|Captain|Capt|Lieutenant|Lt|Sergeant|Sgt|Colonel|Col|Major|General)"
)
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)\.?"
)
# The commonest given names of the United States' census and social security lists, beside which a capitalised word is
# most likely a family name. Names that are common words as well (Will, Grace, May, Rose, Mark, …) are left out.
_GIVEN = (
    "James John Robert Michael William David Richard Joseph Thomas Charles Christopher Daniel Matthew Anthony Donald "
    "Steven Paul Andrew Joshua Kenneth Kevin Brian George Timothy Ronald Edward Jason Jeffrey Ryan Jacob Gary Nicholas "
    "Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Gregory Alexander Patrick Raymond Dennis Jerry "
    "Tyler Aaron Jose Adam Nathan Henry Zachary Douglas Peter Kyle Noah Ethan Jeremy Walter Keith Roger Terry Austin "
    "Sean Gerald Carl Harold Dylan Arthur Lawrence Jordan Jesse Bryan Billy Bruce Gabriel Alan Juan Logan Wayne Ralph "
    "Roy Eugene Randy Vincent Russell Louis Philip Bobby Johnny Bradley Mary Patricia Jennifer Linda Elizabeth Barbara "
    "Susan Jessica Sarah Karen Lisa Nancy Betty Sandra Margaret Ashley Kimberly Emily Donna Michelle Carol Amanda "
    "Melissa Deborah Stephanie Rebecca Sharon Laura Cynthia Dorothy Amy Kathleen Angela Shirley Emma Brenda Pamela "
    "Nicole Anna Samantha Katherine Christine Debra Rachel Carolyn Janet Catherine Maria Heather Diane Ruth Julie "
    "Olivia Joyce Virginia Victoria Kelly Lauren Christina Joan Evelyn Judith Megan Andrea Cheryl Hannah Jacqueline "
    "Martha Gloria Teresa Ann Sara Madison Frances Kathryn Janice Jean Abigail Alice Julia Judy Sophia Denise Doris "
    "Marilyn Danielle Beverly Isabella Theresa Diana Natalie Brittany Charlotte Marie Kayla Alexis Lori Jane"
)
_GIVENS = "|".join(_GIVEN.split())
# The hundred commonest family names of China, by the register of 2019, beside the two-character ones.
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏"
    "付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常張劉陳楊黃趙吳孫馬鄭謝許韓鄧馮蕭葉蔣盧蘇呂鍾薑譚陸賈鄒閆龍"
    "賀顧龔萬錢嚴"
)
_ZH_SURNAME = rf"(?:欧阳|歐陽|司马|司馬|上官|诸葛|諸葛|[{_SURNAMES}])"
_GREETING = re.compile(rf"(?:Hello|Hi|Hey|Bye|Goodbye|Good|Thank|Thanks|Yes|No|Oh|Okay|Well|{_TITLE})\b")
_ZH_TITLES = (
    "先生|女士|小姐|太太|医生|醫生|大夫|护士|護士|教授|老师|老師|主任|同志|经理|經理|博士|律师|律師|院长|院長"
)


def _luhn(number: str) -> bool:
    digits = [int(c) for c in number if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _identity(number: str) -> bool:
    """The check character of a Chinese identity number (GB 11643, ISO 7064 MOD 11-2)."""
    return sum(pow(2, 17 - i, 11) * (10 if c in "xX" else int(c)) for i, c in enumerate(number)) % 11 == 1


@dataclass(frozen=True)
class Pattern:
    """What a kind of identifier looks like; `check` refuses what cannot be one."""

    kind: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = lambda text: True


def _pattern(kind: str, regex: str, check: Callable[[str], bool] = lambda text: True) -> Pattern:
    return Pattern(kind, re.compile(regex), check)


# The first pattern that finds a stretch of text names its kind: numbers with a check digit stand before plain ones.
PATTERNS = (
    _pattern("email", r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)*\.[A-Za-z]{2,}"),
    _pattern(
        "identity number",
        r"(?<!\d)\d{6}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)",
        _identity,
    ),
    _pattern("card number", r"(?<![\d\-])(?:\d[ \-]?){12,18}\d(?![\d\-])", _luhn),
    _pattern("social security number", r"(?<![\d\-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d\-])"),
    _pattern(
        "record number",
        r"(?i:\b(?:medical record|record|mrn|chart|case|account|acct|policy|insurance|member|subscriber|patient id|"
        r"health plan|group|licen[cs]e|passport|claim|ssn|nhs|medicare|medicaid|id)\b(?:\s*(?:number|num|no\.?|id|#))*"
        r"\s*(?:is\s+|[:#]\s*)*)(?P<it>(?=[\w\-]*\d[\w\-]*\d[\w\-]*\d)[A-Za-z0-9][\w\-]{3,})",
    ),
    _pattern(
        "record number",
        r"(?:病历号|病歷號|住院号|住院號|门诊号|門診號|医保号|醫保號|医保卡号|社保号|社保卡号|保单号|保單號|护照号|護照號|"
        r"身份证号|身份證號|卡号|卡號|编号|編號)(?:码|碼)?[\s:：是为為]*(?P<it>[A-Za-z0-9\-]{4,})",
    ),
    _pattern("phone number", r"(?<![\d.])(?:\+?86[ \-]?)?1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}(?!\d)"),
    _pattern("phone number", r"(?<!\d)0\d{2,3}[ \-]\d{7,8}(?!\d)"),
    _pattern("phone number", r"(?<![\d\-.])(?:\+?1[ .\-]?)?(?:\(\d{3}\)[ ]?|\d{3}[ .\-])\d{3}[ .\-]\d{4}(?![\d\-])"),
    _pattern("phone number", r"(?<![\w+])\+\d{1,3}(?:[ .\-]?\(?\d{1,4}\)?){2,5}(?!\d)"),
    _pattern(
        "phone number",
        r"(?:电话|電話|手机|手機|联系方式|聯繫方式|座机)(?:号码|號碼|号|號)?[\s:：是为為]*(?P<it>[\d\-+ ]{7,}\d)",
    ),
    _pattern("date", rf"\b(?:{_MONTH}[ ]+\d{{1,2}}(?:st|nd|rd|th)?(?:,?[ ]+(?:1[6-9]|20)\d{{2}})?|"
                     rf"\d{{1,2}}(?:st|nd|rd|th)?[ ]+(?:of[ ]+)?{_MONTH},?(?:[ ]+(?:1[6-9]|20)\d{{2}})?|"
                     rf"{_MONTH},?[ ]+(?:1[6-9]|20)\d{{2}})\b"),
    _pattern("date", r"(?<![\d/.\-])(?:(?:1[6-9]|20)\d{2}([\-/.])(?:0?[1-9]|1[0-2])\1(?:[12]\d|3[01]|0?[1-9])|"
                     r"(?:[12]\d|3[01]|0?[1-9])([\-/.])(?:[12]\d|3[01]|0?[1-9])\2(?:(?:1[6-9]|20)\d{2}|\d{2}))(?![\d/\-])"),
    _pattern("date", r"(?:(?:\d{4}|[〇○零一二三四五六七八九]{4})\s*年\s*(?:(?:\d{1,2}|[一二三四五六七八九十]{1,2})\s*月"
                     r"(?:\s*(?:\d{1,2}|[一二三四五六七八九十廿卅]{1,3})\s*[日号號])?)|"
                     r"(?:\d{1,2}|[一二三四五六七八九十]{1,2})\s*月\s*(?:\d{1,2}|[一二三四五六七八九十廿卅]{1,3})\s*[日号號])"),
    _pattern(
        "address",
        r"\b\d{1,6}[A-Za-z]?[ ]+(?:[NSEW]\.?[ ]+)?(?:[A-Z][\w'’.\-]*[ ]+){1,4}(?:Street|St|Avenue|Ave|Road|Rd|"
        r"Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Row|Highway|Hwy|Parkway|Pkwy|Circle|Close|"
        r"Crescent)\b\.?"
        r"(?:[ ,]+(?:Apt|Apartment|Suite|Ste|Unit|#)\.?[ ]*#?\w+)?",
    ),
    _pattern("address", r"(?i:\bP\.?[ ]?O\.?[ ]+box[ ]+\d+)"),
    _pattern("address", r"\b[A-Z][A-Za-z.\- ]{1,30},[ ]+[A-Z]{2}[ ]+\d{5}(?:-\d{4})?\b"),
    _pattern("address", r"\b[A-Z]{1,2}\d[A-Z\d]?[ ]\d[A-Z]{2}\b"),
    _pattern(
        "address",
        # Words of going and being end the search backwards: "我住在" is no part of the address.
        r"(?:(?![我你他她它们住在于是的到去从来])[\u4e00-\u9fff]){1,20}(?:路|街|道|巷|弄|村|镇|鎮|小区|小區|胡同)"
        r"\s*[\d一二三四五六七八九十百]+\s*(?:号|號|弄|巷)"
        r"(?:[\d一二三四五六七八九十]+(?:号|號|栋|棟|幢|楼|樓|单元|單元|层|層|室))*",
    ),
    _pattern(
        "name",
        r"(?i:\b(?:(?:patient|full|first|last|given|family|middle|maiden|contact|user)[ ]+)?name[ ]*"
        r"(?:is[ ]+|[:=][ ]*))"
        rf"(?P<it>{_NAME},[ ]*{_NAME}(?:[ ]+[A-Z]\.)?|{_NAME}(?:[ ]+(?:[A-Z]\.|{_NAME})){{0,3}})",
    ),
    # In a dialogue "Patient: Yes" is a turn and no name, so these fields ask for two words with capitals.
    _pattern(
        "name",
        r"(?i:\b(?:patient|attending|physician|provider|dictated by|signed by|author|next of kin)[ ]*:[ ]*)"
        rf"(?P<it>{_NAME},[ ]*{_NAME}\b(?![ ]+[a-z])|{_NAME}(?:[ ]+(?:[A-Z]\.|{_NAME})){{1,3}})",
        lambda text: not _GREETING.match(text),
    ),
    _pattern("name", rf"\b{_TITLE}\b\.?[ ]+(?P<it>(?:[A-Z]\.[ ]*)*{_NAME}(?:[ ]+(?:[A-Z]\.|{_NAME})){{0,2}})"),
    _pattern("name", rf"\b(?P<it>(?:{_GIVENS})(?:[ ]+[A-Z]\.)?[ ]+(?:(?:van|von|de|der|del|di|da|la)[ ]+)?{_NAME})\b"),
    _pattern("name", rf"\b{_NAMES},[ ]+(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|Ph\.?D\.?|Esq\.?)(?!\w)"),
    _pattern(
        "name",
        r"(?:姓名|患者|病人|联系人|聯繫人|联络人|收件人|经办人|签名|簽名|户名)\s*[:：]\s*(?P<it>[\u4e00-\u9fff·]{2,8})",
    ),
    _pattern(
        "name",
        # Two or three characters, two where a word follows that begins no second half of a given name.
        rf"(?:我叫|名叫|名字叫|名字是)(?P<it>{_ZH_SURNAME}[\u4e00-\u9fff](?=[^\u4e00-\u9fff]|$|今|是|在|来|住|的|和)|"
        rf"{_ZH_SURNAME}[\u4e00-\u9fff]{{1,2}})",
    ),
    _pattern("name", rf"(?P<it>{_ZH_SURNAME}[\u4e00-\u9fff]{{0,2}}?)(?:{_ZH_TITLES})"),
)  # fmt: skip
