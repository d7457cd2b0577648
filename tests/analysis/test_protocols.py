"""Results of different protocols do not stand in one table."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import protocols
from analysis.errors import MixedProtocols


def trials(*protocols_of_arms: tuple[str, dict]) -> pd.DataFrame:
    return pd.DataFrame([{"arm": arm, "protocol": protocol} for arm, protocol in protocols_of_arms])


MIXED = trials(("a", {"epochs": 3, "data": {"flip": True}}), ("b", {"epochs": 3, "data": {"flip": False}}))


def test_one_protocol_passes_without_a_note() -> None:
    assert protocols.check(trials(("a", {"epochs": 3}), ("b", {"epochs": 3}))) == []


def test_the_refusal_names_field_values_and_arms() -> None:
    with pytest.raises(MixedProtocols, match=r"data\.flip: true \(a\); false \(b\)") as error:
        protocols.check(MIXED)
    assert (error.value.field, error.value.values) == ("data.flip", ("true", "false"))


@pytest.mark.parametrize("allowed", ["data.flip", "data"])
def test_an_allowed_difference_is_noted(allowed: str) -> None:
    assert protocols.check(MIXED, [allowed]) == ["Protocols differ in data.flip, as allowed: true (a); false (b)."]


def test_what_a_layout_allows_stands_before_what_its_reader_does() -> None:
    assert protocols.allowed({"allow": ["epochs", "data"]}, ["select", "epochs"]) == ("epochs", "data", "select")
    assert protocols.allowed({}) == ()


def test_allowing_one_field_does_not_allow_another() -> None:
    with pytest.raises(MixedProtocols):
        protocols.check(MIXED, ["epochs", "dat"])


def test_a_field_only_one_has_is_a_difference() -> None:
    with pytest.raises(MixedProtocols, match=r"epochs: 3 \(a\); absent \(b\)"):
        protocols.check(trials(("a", {"epochs": 3}), ("b", {})))


def test_the_brief_leaves_out_what_differs_and_shortens_digests() -> None:
    assert protocols.brief(MIXED) == "epochs 3"
    assert protocols.brief(trials(("a", {"data": "0123456789abcdef"}))) == "data 01234567"
    assert protocols.brief(MIXED[:0]) == ""


def test_a_field_that_the_rows_state_may_differ_without_a_note() -> None:
    assert protocols.check(MIXED, stated=["data.flip"]) == []
    assert protocols.stated(["student.input_size", "distill.alpha"]) == ["input_size"]


def test_every_value_and_arm_of_a_difference_is_named_once() -> None:
    three = trials(("a", {"e": 1}), ("b", {"e": 2}), ("a", {"e": 2}), ("b", {"e": 2}))
    assert protocols.differing(three) == {"e": {"1": ["a"], "2": ["b", "a"]}}
