"""Files: tensors and nested objects, saved atomically and loaded as data only."""

from .allowed import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals
from .atomic import atomic_write
from .checkpoint import load, save
from .safetensors import load_file, safe_open, save_file
