"""What the parts of a recipe are made of, and parts that stand by themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """Leaves that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class CaptionPart(Part):
    """How captions are heard; which columns they are says ``data.caption``."""

    encoder: str | None = Field(
        None, description="folder of a Hugging Face text encoder, which stays as it is"
    )
    vocabulary: Annotated[int, Field(ge=258)] | Auto = Field("auto", description="tokens of the tokeniser")
    length: Annotated[int, Field(ge=1)] | Auto = Field("auto", description="tokens that are read at most")
    thin: Share | Auto = Field("auto", description="share of parts between commas that training leaves out")
    dim: Annotated[int, Field(ge=4)] | Auto = Field("auto", description="width of what is made of them")
    depth: int = Field(2, ge=1, description="blocks that make it")


class CodecPart(Part):
    """What makes latents of pictures, or clips, that are too large for a diffusion of pixels; see `kuosan.codecs`."""

    kind: Literal["auto", "none", "kl_vae", "stock"] = "auto"
    path: str | None = Field(None, description="folder of a diffusers autoencoder or pipeline, for `stock`")
    factor: int | Auto = "auto"
    frames: Annotated[int, Field(ge=1)] | Auto = "auto"
    latent: int | Auto = "auto"
    base: int = Field(64, ge=1)
    share: float = Field(0.2, gt=0, lt=1)
    steps: int | Auto = "auto"
    batch: int = Field(16, ge=1)
    crop: Annotated[int, Field(ge=1)] | Auto = "auto"
    detail: float = Field(0.3, ge=0)
