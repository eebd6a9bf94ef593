"""Quantizers: a model goes in, its quantized form comes out.

Importing this package does not load torch.
"""

from .base import Quantizer
from .calibration import CalibratedQuantizer, Calibration
from .errors import ModelError, QuantizerError
from .registry import get_quantizer, list_quantizers, quantizer_name, register_quantizer

__all__ = [
    "CalibratedQuantizer",
    "Calibration",
    "ModelError",
    "Quantizer",
    "QuantizerError",
    "get_quantizer",
    "list_quantizers",
    "quantizer_name",
    "register_quantizer",
]
