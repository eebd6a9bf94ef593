"""Quantizers: a model goes in, its quantized form comes out.

Importing this package loads no torch; the first use does.
"""

from ._registry import get_quantizer, list_quantizers, register_quantizer
from .base import Quantizer, QuantizerError
from .calibration import CalibratedQuantizer

__all__ = [
    "CalibratedQuantizer",
    "Quantizer",
    "QuantizerError",
    "get_quantizer",
    "list_quantizers",
    "register_quantizer",
]
