"""Networks: plain modules, unaware of diffusion.

Each maps (x, label, **conditions) to a tensor of x's shape: x is a batch of images, label one real number per
image (the noise label, about 0…1000), and each condition one index per image (n of n values means null).
"""

from kuosan.networks.choose import build_network, choose_network
from kuosan.networks.transformer import Transformer
from kuosan.networks.unet import UNet

__all__ = ["Transformer", "UNet", "build_network", "choose_network"]
