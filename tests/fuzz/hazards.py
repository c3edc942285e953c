"""All hazards, by name; what a hazard is, and what must follow from one: `fuzz.hazard`."""

from fuzz import hazards_arrays, hazards_options  # noqa: F401 (each enters its own)
from fuzz.hazard import HAZARDS

__all__ = ["HAZARDS"]
