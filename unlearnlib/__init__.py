"""unlearnlib: machine-unlearning papers, re-run, drawn, and judged claim by claim."""

from .access import Access, AccessError
from .methods import METHODS

__version__ = "0.1.0"
__all__ = ["METHODS", "Access", "AccessError", "__version__"]
