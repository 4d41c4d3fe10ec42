"""Leaves of a recipe's data that only some kinds of data have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Enlarge = Annotated[
    int,
    Field(ge=0, le=16, description="pictures: learn to enlarge them so many times, from crops of this size"),
]
Blur = Annotated[
    float,
    Field(
        ge=0, le=4, description="enlarge: largest blur of small pictures, in their pixels (std. deviation)"
    ),
]
Jpeg = Annotated[
    int, Field(ge=0, le=95, description="enlarge: lowest JPEG quality of small pictures; 0: none")
]
Map = Annotated[
    str, Field(description="pictures: folder of their maps, masks or boxes; auto knows the usual names; none")
]
Aspect = Annotated[
    Literal["auto", "crop", "buckets"],
    Field(description="pictures of several shapes: all cropped to one, or each to the nearest of a few"),
]
Names = Annotated[
    str,
    Field(description="audio: what files' names say, such as {digit}_{speaker}_{take}, or none"),
]
Vocoder = Annotated[
    Annotated[int, Field(ge=0)] | Literal["auto"],
    Field(description="audio: steps that the vocoder is trained for; with 0, Griffin-Lim"),
]
Form = Annotated[
    Literal["auto", "voices", "roll", "distance", "voxels", "points"],
    Field(
        description="music: tokens of voices, or numbers of rolls, in which any number of notes sounds; shapes: "
        "distances from their surface, tokens of voxels, or points of it"
    ),
]
Scale = Annotated[
    Annotated[float, Field(gt=0)] | Literal["auto", "common", "each"],
    Field(
        description="shapes: common keeps their sizes, each makes every one as large as fits; plans: metres of a unit"
    ),
]
