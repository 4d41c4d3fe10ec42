"""Networks: plain modules, unaware of diffusion.

Those of pictures map (x, label, **conditions) to a tensor of x's shape: x is a batch of images, label one real number
per image (the noise label, about 0…1000), and each condition one index per image (n of n values means null). What
training shows of an image, if not all of it, is a `View` between label and conditions. Those of
tokens map token numbers to scores of every value.
"""

from kuosan.networks.choose import build_network, choose_network
from kuosan.networks.choose_tokens import choose_token_network
from kuosan.networks.tokens import TokenTransformer
from kuosan.networks.transformer import Transformer
from kuosan.networks.unet import UNet
from kuosan.networks.view import WHOLE, View

__all__ = [
    "WHOLE",
    "TokenTransformer",
    "Transformer",
    "UNet",
    "View",
    "build_network",
    "choose_network",
    "choose_token_network",
]
