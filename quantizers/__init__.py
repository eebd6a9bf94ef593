"""Quantizers: a model goes in, its quantized form comes out.

Importing this package loads no torch; the first use does.
"""

from .base import Quantizer
from .calibration import CalibratedQuantizer
from .errors import QuantizerError
from .registry import get_quantizer, list_quantizers, register_quantizer

__all__ = [
    "CalibratedQuantizer",
    "Quantizer",
    "QuantizerError",
    "get_quantizer",
    "list_quantizers",
    "register_quantizer",
]
