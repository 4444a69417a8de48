"""Artifacts: what is computed ahead, for a day, and replaced as a whole."""

from compute_service.artifacts.artifact import Artifact, Day, Write

__all__ = ["Artifact", "Day", "Write"]
