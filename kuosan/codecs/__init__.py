"""Codecs: states to latents and back, so that diffusion has fewer numbers to make (layer 2)."""

from kuosan.codecs.base import Codec
from kuosan.codecs.build import build_codec, load_codec, save_codec
from kuosan.codecs.kl_vae import KLVAE
from kuosan.codecs.latents import Drawn, Latents, encode_items
from kuosan.codecs.likelihood import Terms, likelihood_terms
from kuosan.codecs.measure import RoundTrip, calibrate, round_trip
from kuosan.codecs.stock import StockCodec, read_stock
from kuosan.codecs.training import CodecProgress, codec_settings, train_codec

__all__ = [
    "KLVAE",
    "Codec",
    "CodecProgress",
    "Drawn",
    "Latents",
    "RoundTrip",
    "StockCodec",
    "Terms",
    "build_codec",
    "calibrate",
    "codec_settings",
    "encode_items",
    "likelihood_terms",
    "load_codec",
    "read_stock",
    "round_trip",
    "save_codec",
    "train_codec",
]
