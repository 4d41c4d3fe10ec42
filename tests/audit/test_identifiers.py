"""The scan for identifiers: each kind is found where it stands, look-alikes are not, copies are told from fiction."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kuosan.audit import KINDS, scan

# (text, kind, what is found)
SEEN = [
    ("My name is Jane Doe.", "name", "Jane Doe"),
    ("Name: O'Brien, Mary-Ann", "name", "O'Brien, Mary-Ann"),
    ("Patient: John Q. Public", "name", "John Q. Public"),
    ("seen by Dr. Kumar today", "name", "Kumar"),
    ("and Susan Miller came", "name", "Susan Miller"),
    ("Alice B. Toklas, M.D.", "name", "Alice B. Toklas"),
    ("姓名：张伟，男", "name", "张伟"),
    ("我叫李明，今年", "name", "李明"),
    ("请王医生来", "name", "王"),
    ("born on March 3rd, 1987", "date", "March 3rd, 1987"),
    ("the 12 March 2020", "date", "12 March 2020"),
    ("DOB 03/04/1962", "date", "03/04/1962"),
    ("on 2020-01-31.", "date", "2020-01-31"),
    ("出生于1987年3月5日", "date", "1987年3月5日"),
    ("二〇二〇年十月一日", "date", "二〇二〇年十月一日"),
    ("call (415) 555-0132", "phone number", "(415) 555-0132"),
    ("call 408-247-8880 now", "phone number", "408-247-8880"),
    ("ring +44 20 7946 0958", "phone number", "+44 20 7946 0958"),
    ("手机13812345678", "phone number", "13812345678"),
    ("电话：010-62345678", "phone number", "010-62345678"),
    ("a.b-c@mail.example.org!", "email", "a.b-c@mail.example.org"),
    ("SSN 123-45-6789", "social security number", "123-45-6789"),
    ("MRN: 00123456", "record number", "00123456"),
    ("policy number is ABX-99281", "record number", "ABX-99281"),
    ("病历号：A123456", "record number", "A123456"),
    ("身份证 11010519491231002X", "identity number", "11010519491231002X"),
    ("card 4111 1111 1111 1111", "card number", "4111 1111 1111 1111"),
    ("at 377 Santana Row, Suite 5", "address", "377 Santana Row, Suite 5"),
    ("in San Jose, CA 95128", "address", "San Jose, CA 95128"),
    ("我住在北京市朝阳区建国路88号", "address", "北京市朝阳区建国路88号"),
]


@pytest.mark.parametrize(("text", "kind", "it"), SEEN)
def test_each_kind_is_found_where_it_stands(text: str, kind: str, it: str) -> None:
    found = [f for f in scan(["nothing here", text]).findings if f.kind == kind]
    assert [f.text for f in found] == [it]
    assert found[0].index == 1 and text[found[0].start : found[0].end] == it


@pytest.mark.parametrize(
    "text",
    [
        "Patient: Yes, doctor.",
        "Patient: Hello Doctor",
        "the year 1987, 35 mg twice, a ratio of 3/4 or 1.5",
        "Two streets and 12 roads; it is 10 May be",
        "41 1111 1111 1111 1112 and 4111 1111 1111 1112",  # Luhn fails
        "110105194912310021",  # an identity number with a wrong check digit
        "name of the game, no name: none",
        "春眠不覺曉，處處聞啼鳥",
        "000-12-3456",  # no such social security number
    ],
)
def test_look_alikes_are_not(text: str) -> None:
    found = [f for f in scan([text]).findings if f.kind not in {"phone number", "date"}]
    assert found == []


def test_findings_do_not_overlap_and_counts_name_every_kind() -> None:
    text = " ".join(row[0] for row in SEEN)
    found = scan([text, "", text])
    assert set(found.counts) == set(KINDS) and all(found.counts.values())
    assert sum(found.counts.values()) == len(found.findings)
    for a, b in zip(found.findings[:-1], found.findings[1:], strict=True):
        assert (a.index, a.end) <= (b.index, b.start) or a.index < b.index
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["texts"] == 3 and plain["texts_with_findings"] == 2 and plain["counts"] == found.counts
    assert "cannot prove" in plain["note"]


def test_what_stands_in_training_is_told_from_what_was_made_up() -> None:
    samples = ["Dr. Kumar called 408-247-8880.", "Dr. Osei called 408-247-8881."]
    found = scan(samples, ["ask Kumar", "or 408-247-", "8880"])
    assert [(f.text, f.in_training) for f in found.findings] == [
        ("Kumar", True), ("408-247-8880", False), ("Osei", False), ("408-247-8881", False),
    ]  # fmt: skip
    assert [f.text for f in found.leaked] == ["Kumar"]
    assert all(f.in_training is None for f in scan(samples).findings)
    assert scan([], []).findings == ()


def test_clinical_notes_name_their_doctors(shared_data: Callable[[str], Path]) -> None:
    with open(shared_data("mts_dialog") / "MTS-Dialog-TrainingSet.csv", encoding="utf-8", newline="") as file:
        notes = [row["section_text"] for row in csv.DictReader(file)][:200]
    found = scan(notes, notes)
    assert found.counts["name"] >= 5 and "Kumar" in {f.text for f in found.findings}
    assert found.leaked == found.findings
