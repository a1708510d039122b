from . import wdsr
from .wdsr import *  # noqa: F403

__doc__ = wdsr.__doc__
__all__ = wdsr.__all__
