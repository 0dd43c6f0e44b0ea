"""What each op means. The flat namespace holds every op function under PyTorch's name."""

from .activation import *
from .adaptive_pooling import *
from .attention import *
from .bag import *
from .bivariate import *
from .blending import *
from .convolution import *
from .copies import *
from .counting import *
from .ctc import *
from .diagonal import *
from .differences import *
from .distance import *
from .dropout import *
from .einsum import *
from .elementwise import *
from .embedding import *
from .gamma import *
from .gather import *
from .grid import *
from .histogram import *
from .image import *
from .indexing import *
from .integer import *
from .integration import *
from .joining import *
from .loss import *
from .margin import *
from .masks import *
from .matmul import *
from .matrices import *
from .movement import *
from .norm import *
from .padding import *
from .pairs import *
from .placing import *
from .pooling import *
from .position import *
from .power import *
from .rearrange import *
from .recurrence import *
from .recurrent import *
from .reduce import *
from .resize import *
from .scan import *
from .select import *
from .sorting import *
from .special import *
from .statistics import *
from .strided import *
from .unpooling import *

# The functions of ops: not the records and constants beside them, nor what modules import.
_OWN = ("record", "arguments")
__all__ = [
    n
    for n, v in globals().items()
    if n[0] != "_"
    and n.islower()
    and callable(v)
    and v.__module__.startswith(__name__)
    and v.__module__.rpartition(".")[2] not in _OWN
]
