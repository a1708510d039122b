from . import wdsr
from .wdsr import *

__doc__ = wdsr.__doc__
__all__ = wdsr.__all__
