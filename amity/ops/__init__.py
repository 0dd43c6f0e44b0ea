"""What each op means. The flat namespace holds every op function under PyTorch's name."""

from .activation import *
from .attention import *
from .convolution import *
from .dropout import *
from .einsum import *
from .elementwise import *
from .embedding import *
from .gather import *
from .indexing import *
from .integer import *
from .joining import *
from .loss import *
from .matmul import *
from .movement import *
from .norm import *
from .pooling import *
from .position import *
from .power import *
from .recurrent import *
from .rearrange import *
from .reduce import *
from .scan import *
from .select import *
from .sorting import *
from .special import *
from .statistics import *
