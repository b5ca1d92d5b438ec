"""Looks at a mesh from outside and says what is wrong and what to do."""

from mesh.doctor.examine import examine
from mesh.doctor.finding import Finding, State

__all__ = ["Finding", "State", "examine"]
