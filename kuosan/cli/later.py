"""Verbs that the contract names and this version does not have: a plain word instead of "no such command"."""

from __future__ import annotations

import kuosan

VERBS = {
    "audit": "the report and `kuosan evaluate` already look for near-copies of training items",
    "explain": "the report already shows one sample on its way, step by step",
    "serve": "sample with `kuosan sample`, or from Python with kuosan.load(RUN).sample(n)",
    "zoo": "start from a run or from a diffusers folder with `kuosan train DATA --init`",
}


def sentence(verb: str) -> str:
    """What to do instead."""
    version = ".".join(kuosan.__version__.split(".")[:2])
    return f"kuosan {verb} is not part of this version ({version}): {VERBS[verb]}"
