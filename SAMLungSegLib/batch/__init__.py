"""Cohorts: every image of a folder or list segmented into files, resumable, on one machine or a cluster.

Example:
    >>> from SAMLungSegLib.batch import run
    >>> run("scans", "results").table()
"""

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.discovery import find_cases
from SAMLungSegLib.batch.plan import Estimate, Plan, estimate
from SAMLungSegLib.batch.run import BatchResult, preview, run
from SAMLungSegLib.batch.settings import BatchError, Settings

__all__ = [
    "BatchError",
    "BatchResult",
    "Case",
    "Estimate",
    "Plan",
    "Settings",
    "estimate",
    "find_cases",
    "preview",
    "run",
]
