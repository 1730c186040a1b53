"""Stand-in for ``slicer.packaging``: looks up what is installed, records what would be installed, installs nothing."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

installed: list[dict[str, Any]] = []


def _listed(requirements: Any) -> list[Requirement]:
    items = [requirements] if isinstance(requirements, (str, Requirement)) else requirements
    return [item if isinstance(item, Requirement) else Requirement(item) for item in items]


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a requirements.txt file."""
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def pip_check(req: Any, _seen: Any = None) -> bool:
    """Whether every requirement is installed in a version that it allows."""
    return all(_satisfied(requirement) for requirement in _listed(req))


def pip_ensure(requirements: Any, constraints: str | Path | None = None, **options: Any) -> list[str] | None:
    """Records the requirements that are missing."""
    missing = [requirement for requirement in _listed(requirements) if not _satisfied(requirement)]
    if not missing:
        return [] if options.get("skip_packages") else None
    return pip_install([str(requirement) for requirement in missing], constraints, **options)


def pip_install(requirements: Any, constraints: str | Path | None = None, **options: Any) -> list[str] | None:
    """Records an installation."""
    names = requirements.split() if isinstance(requirements, str) else [str(item) for item in requirements]
    installed.append({"requirements": names, "constraints": constraints, **options})
    return [] if options.get("skip_packages") else None


def pip_uninstall(requirements: Any, **options: Any) -> None:
    """Records a removal."""
    installed.append({"uninstall": requirements, **options})


def isPipInstallInProgress() -> bool:
    return False
