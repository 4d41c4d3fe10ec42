"""Rivals of diffusion, trained with the same care: a variational autoencoder and a generative adversarial network of
dense states, an autoregressive transformer of tokens.

People choose between kinds of models, and want to know which suits *their* data. A `Rival` is another kind of model of
the same states under the same conditions, as large, trained on the same items for as long (`fit`), and then asked for
samples, from which everything else is measured. See `recipes.compare` for who trains whom, and for how long.
"""

from kuosan.rivals.autoregressive import Autoregressive, solve_dim
from kuosan.rivals.base import Rival
from kuosan.rivals.fit import Fitted, fit, fresh
from kuosan.rivals.gan import GAN
from kuosan.rivals.vae import VAE
from kuosan.rivals.width import level_count, parameters, solve_widths

__all__ = [
    "GAN",
    "VAE",
    "Autoregressive",
    "Fitted",
    "Rival",
    "fit",
    "fresh",
    "level_count",
    "parameters",
    "solve_dim",
    "solve_widths",
]
