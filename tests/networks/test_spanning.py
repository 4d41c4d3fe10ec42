"""Patches that span a side: what a modality calls whole is never cut."""

from __future__ import annotations

import pytest

from kuosan.networks.choose import MOST_TOKENS, choose_network, spanning


@pytest.mark.parametrize("sides", [(64, 56), (112, 148), (96, 436), (80, 6000)])
def test_a_patch_spans_what_is_whole_and_divides_the_rest(sides: tuple[int, int]) -> None:
    found = spanning(sides, [True, False])
    assert found and all(p[0] == sides[0] and sides[1] % p[1] == 0 for p in found)
    assert all(sides[1] // p[1] <= MOST_TOKENS for p in found)
    network, _ = choose_network(1, sides, {}, seconds=60, device="cpu", items=100, whole=[True, False])
    assert tuple(network["patch"]) in found


def test_a_network_that_says_x_does_not_see_a_window_as_one_patch() -> None:
    """No width bounds its patches: a seventh of the side does, or four places."""
    for channels, sides in ((2, (88, 64)), (8, (46, 16))):
        network, _ = choose_network(
            channels,
            sides,
            {},
            seconds=1e3,
            device="cpu",
            items=100,
            kind="transformer",
            whole=[True, False],
            clean=True,
        )
        assert network["patch"][0] == sides[0]
        assert network["patch"][1] <= max(4, sides[1] // 7)
