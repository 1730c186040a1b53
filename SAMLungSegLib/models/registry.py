"""The models that can be chosen by name: what they are, where their weights come from, how to recognise them.

Neither torch nor segment_anything is imported here, so that listing models is instant.

Where the figures come from:

- SAM: addresses from the README of github.com/facebookresearch/segment-anything, licence Apache-2.0. SHA-256 and sizes
  from the Git LFS pointers of huggingface.co/netradrishti/sam (commit 0ca332df) and huggingface.co/mashb1t/misc (commit
  78e18135), which agree with each other and with the checksums that micro-sam ships. The six digits in the file names
  are not the start of the SHA-256 but of the MD5: 01ec64d2..., 0b319550..., 4b8939a8... .
- MedSAM: the authors' record 10.5281/zenodo.10689643, licence CC BY 4.0. Zenodo publishes an MD5 only
  (3bb6db55bd0c9ca30b61248bca72f8d6). SHA-256 and size from the Git LFS pointer of
  huggingface.co/spaces/dennistrujillo/MedSAMTest (commit 2c1bc6a7); several public projects give the same SHA-256 for
  the authors' file on Google Drive, and the same size for the one on Zenodo.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from SAMLungSegLib.documents import DocumentError, read_json
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.capabilities import COMPACT, MEDSAM, SAM, SAM_TINY, Capabilities

Family = Literal["sam", "medsam", "compact"]
Architecture = Literal["vit_b", "vit_l", "vit_h", "vit_tiny", "compact"]

CACHE_VARIABLE = "SAMLUNGSEG_CACHE"
SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSpec:
    """One row of the registry.

    Attributes:
        name: what users type.
        family: which class predicts.
        architecture: which network the weights belong to.
        title: one line for lists.
        url: where the weights are downloaded from; None if they are bundled, or made by a recipe.
        file_name: name of the weights in the cache folder or among the bundled files.
        size_bytes: size of that file; 0 if unknown.
        sha256: its SHA-256, lower-case hexadecimal; None if nobody publishes it.
        licence: licence of the weights.
        capabilities: what the model accepts and predicts.
        recipe: by which `samlungseg train` makes the weights, where they are neither bundled nor anywhere to be had.
        extends_sha256: SHA-256 of earlier weights all of which this file holds, with parts beside them: without points
            it predicts what they did, and what was tuned on top of them belongs on top of it.
    """

    name: str
    family: Family
    architecture: Architecture
    title: str
    url: str | None
    file_name: str
    size_bytes: int
    sha256: str | None
    licence: str
    capabilities: Capabilities = SAM
    recipe: str | None = None
    extends_sha256: tuple[str, ...] = ()

    @property
    def is_bundled(self) -> bool:
        """Whether the weights come with the package and need no download."""
        return self.url is None and self.recipe is None

    @property
    def taught(self) -> Literal["lungs", "prompts"] | None:
        """What recipes of `samlungseg train` teach it: lungs without a prompt, or objects by prompts; None: nothing."""
        taught: dict[Family, Literal["lungs", "prompts"]] = {"compact": "lungs", "sam": "prompts"}
        return taught.get(self.family)

    @property
    def is_trained_here(self) -> bool:
        """Whether nobody offers the weights, so that users train them or are given a file."""
        return self.url is None and self.recipe is not None

    @property
    def remedy(self) -> str:
        """What to do where the weights are not on this machine, for messages."""
        if not self.is_trained_here:
            return f"run 'samlungseg models fetch {self.name}'"
        return (
            f"give them with --weights FILE, or train them with 'samlungseg train {self.recipe} DATA -o OUT' (nobody "
            f"offers them); as {models_folder() / self.file_name} they are found without"
        )


def model_spec(name: str) -> ModelSpec:
    """The registry's row called `name`.

    Raises:
        ModelError: no such model; the message lists those there are.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise ModelError(f"There is no model {name!r}; choose one of {', '.join(MODELS)}.") from None


def cache_folder() -> Path:
    """What can be had again lies here: $SAMLUNGSEG_CACHE, or the user's cache folder of this program."""
    import platformdirs  # Slicer comes without it, and lists the models before anything is installed

    root = os.environ.get(CACHE_VARIABLE)
    return Path(root).expanduser() if root else platformdirs.user_cache_path("SAMLungSeg", appauthor=False)


def models_folder() -> Path:
    """Where downloaded weights lie: `models` in the cache folder."""
    return cache_folder() / "models"


def bundled_file(name: str) -> Path:
    """Path of a file that is shipped with the package, in a wheel or in a source checkout.

    Raises:
        ModelError: it is in neither place.
    """
    folders = _bundled_folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    places = " and ".join(str(folder) for folder in folders)
    raise ModelError(f"The bundled file {name} is missing (looked in {places}); install SAMLungSeg again.")


def _bundled_folders() -> tuple[Path, Path]:
    package = Path(__file__).resolve().parents[1]
    return package / "_resources" / "Models", package.parent / "Resources" / "Models"


def _read_card(name: str) -> dict[str, Any]:
    """The JSON card of bundled weights; empty if absent or damaged, since the registry must always load."""
    try:
        card = read_json(bundled_file(name))
    except ModelError:
        return {}
    except DocumentError as error:
        logger.warning("The model card %s cannot be read: %s", name, error)
        return {}
    return card if isinstance(card, dict) else {}


def _capabilities_of(card: dict[str, Any], usual: Capabilities) -> Capabilities:
    """What a card says that its model can do; the usual where it does not, or not in a way that makes sense."""
    fields = card.get("capabilities")
    if not isinstance(fields, dict):
        return usual
    try:
        return Capabilities.from_fields(fields)
    except ModelError as error:
        logger.warning("The model card says what makes no sense: %s", error)
        return usual


def _compact_spec() -> ModelSpec:
    card = _read_card("lung-compact.json")
    return ModelSpec(
        name="lung-compact",
        family="compact",
        architecture="compact",
        title="Small lung network: both lungs without a prompt, refined by clicks and boxes; bundled, made for a CPU",
        url=None,
        file_name="lung-compact.safetensors",
        size_bytes=int(card.get("size_bytes", 0)),
        sha256=card.get("sha256"),
        licence=str(card.get("licence", "see the model card")),
        capabilities=_capabilities_of(card, COMPACT),
        extends_sha256=tuple(card.get("extends_sha256", ())),
    )


def _sam_spec(architecture: Architecture, title: str, file_name: str, size_bytes: int, sha256: str) -> ModelSpec:
    return ModelSpec(
        name=f"sam-{architecture.replace('_', '-')}",
        family="sam",
        architecture=architecture,
        title=title,
        url=SAM_ADDRESS + file_name,
        file_name=file_name,
        size_bytes=size_bytes,
        sha256=sha256,
        licence="Apache-2.0",
    )


_ROWS = (
    _compact_spec(),
    _sam_spec(
        "vit_b",
        "Segment Anything, ViT-B: the fastest of the three",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _sam_spec(
        "vit_l",
        "Segment Anything, ViT-L: as in the zero-shot lung study",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _sam_spec(
        "vit_h",
        "Segment Anything, ViT-H: the largest",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    ModelSpec(
        name="sam-vit-tiny",
        family="sam",
        architecture="vit_tiny",
        title="Small SAM for trials of adapters, ViT-Ti at 256 pixels: weights by `samlungseg train sam-vit-tiny DATA`",
        url=None,
        file_name="sam-vit-tiny.safetensors",
        size_bytes=0,
        sha256=None,
        licence="that of the weights, see their card",
        capabilities=SAM_TINY,
        recipe="sam-vit-tiny",
    ),
    ModelSpec(
        name="medsam-vit-b",
        family="medsam",
        architecture="vit_b",
        title="MedSAM, ViT-B: trained on medical images, accepts boxes only",
        url="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        file_name="medsam_vit_b.pth",
        size_bytes=375_049_145,
        sha256="34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        licence="CC BY 4.0",
        capabilities=MEDSAM,
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _ROWS}
"""The models that there are, by name."""
