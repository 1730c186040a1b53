"""How a segmentation was made, kept with it so that it can be made again, voxel for voxel.

A `Provenance` lies in a JSON file beside each result, and in the metadata of a .seg.nrrd or .nrrd as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SAMLungSegLib.documents import is_matrix, is_number, parse_json, read_text
from SAMLungSegLib.errors import ModelError, PromptError, SAMLungSegError, VolumeError
from SAMLungSegLib.files import writing
from SAMLungSegLib.intensity import Window
from SAMLungSegLib.modality import MODALITIES
from SAMLungSegLib.models.choice import CHANGED, ModelChoice
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.options import Options
from SAMLungSegLib.prompts.volume import MOST_PROMPTS, VolumeBox, VolumePoint
from SAMLungSegLib.volume import RESULT_EXTENSIONS, Volume, write_labelmap
from SAMLungSegLib.volume.dicomout import Algorithm
from SAMLungSegLib.volume.guarded import metadata_of
from SAMLungSegLib.volumetry import LungSizes

logger = logging.getLogger(__name__)

SCHEMA = "samlungseg-recipe/1"  # a provenance record was called recipe; what users have must be read for ever
ACTIONS_SCHEMA = "samlungseg-actions/1"  # of a list of records, see `actions`
METADATA_NAME = "SAMLungSeg_Recipe"
_STATISTICS = "statistics"  # of the labelmap, beside the record
_SAME_PLACE_MM = 1e-4
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Provenance:
    """All that decides a segmentation.

    Attributes:
        image: path of the image; empty where it came from no file.
        series: which one of a DICOM folder.
        image_sha256: of its voxels, see `voxels_sha256`.
        ijk_to_ras: rows of the image's matrix.
        model: which one answered.
        weights_sha256: of the model, see `origin_of`.
        device: kind of device that it ran on.
        options: prompts and settings; the modality is the one that was taken.
        engine: that ran the model: 'onnx' or 'torch', as all were before there was a choice.
    """

    image: str
    series: str | None
    image_sha256: str
    ijk_to_ras: tuple[tuple[float, ...], ...]
    model: ModelChoice
    weights_sha256: Mapping[str, str]
    device: str
    options: Options
    engine: str = "torch"

    def to_json(self) -> str:
        """The record on one line."""
        model = asdict(self.model) | {"weights": self.model.weights and str(self.model.weights)}
        fields = {**asdict(self), "schema": SCHEMA, "model": model}
        return json.dumps(fields, sort_keys=True)

    def algorithm(self) -> Algorithm:
        """What a DICOM object says of it: model, weights and settings, and no path."""
        options = self.options
        parameters = {
            "engine": self.engine,
            "threshold": f"{options.threshold:g}",
            "every": f"{options.every}",
            **({"extent": options.shown_extent} if options.shown_extent else {}),
            **{f"SHA-256 of {name}": digest for name, digest in self.weights_sha256.items()},
        }
        return Algorithm(f"SAMLungSeg {self.model.name}", not (options.points or options.boxes), parameters)

    def check_image(self, volume: Volume) -> None:
        """Refuse another image than the one that was segmented.

        Raises:
            VolumeError: it has other voxels or another place.
        """
        if voxels_sha256(volume) != self.image_sha256:
            raise VolumeError(
                f"{volume.name} has other voxels than the image that was segmented ({self.image}, SHA-256 "
                f"{self.image_sha256[:12]}...); give that one as INPUT."
            )
        if not is_same_place(self.ijk_to_ras, volume.ijk_to_ras):
            raise VolumeError(f"{volume.name} has the voxels of {self.image} at another place; give that one as INPUT.")

    def check_model(self, choice: ModelChoice) -> None:
        """Refuse other weights than those that made it.

        Raises:
            ModelError: they differ, or are not there.
        """
        here = choice.weights_sha256()
        then = self.weights_sha256
        if CHANGED in then:
            raise ModelError(
                f"The weights of {self.model.name} were changed after they were loaded, as by training (SHA-256 "
                f"{then[CHANGED][:12]}...), and no file is known to hold them: segment again with the changed ones."
            )
        changed = [
            name for name in {**then, **here} if not self._predicts_the_same(name, then.get(name), here.get(name))
        ]
        if changed:
            digest = then.get(changed[0])
            raise ModelError(
                f"The weights of {' and '.join(changed)} are not those that made the segmentation (SHA-256 "
                f"{f'{digest[:12]}...' if digest else 'none'}); give them with --weights, or the version of that time."
            )

    def _predicts_the_same(self, name: str, then: str | None, here: str | None) -> bool:
        """Whether weights are those of then, or hold them and parts for points, of which there are none."""
        extended = MODELS[name].extends_sha256 if name in MODELS and not self.options.points else ()
        return here == then or then in extended


def provenance_of(
    volume: Volume,
    options: Options,
    choice: ModelChoice,
    device: str,
    *,
    image: Path | None = None,
    series: str | None = None,
    image_sha256: str | None = None,
    weights_sha256: Mapping[str, str] | None = None,
    engine: str = "torch",
) -> Provenance:
    """How the segmentation of `volume` was made.

    Args:
        volume: the image.
        options: it was made with; the modality is the one that was taken.
        choice: of the model.
        device: that it ran on, such as 'cuda:0'.
        image: path of the image.
        series: which one of a DICOM folder.
        image_sha256: where it is known already.
        weights_sha256: where they are known already.
        engine: that ran the model, such as 'onnx'.
    """
    return Provenance(
        image=str(image.absolute()) if image else "",
        series=series,
        image_sha256=image_sha256 or voxels_sha256(volume),
        ijk_to_ras=tuple(map(tuple, volume.ijk_to_ras.tolist())),
        model=choice.located(),
        weights_sha256=weights_sha256 or choice.weights_sha256(),
        device=device.partition(":")[0],
        options=options,
        engine=engine,
    )


def save(
    labelmap_kji: np.ndarray, volume: Volume, path: Path, provenance: Provenance, statistics: LungSizes | None = None
) -> None:
    """Write the labelmap of a volume with its provenance in it, where the format has a place, and beside it.

    Args:
        labelmap_kji: on the grid of the volume.
        volume: the image.
        path: of the labelmap.
        provenance: how it was made.
        statistics: its numbers, for the file beside it only: in the labelmap they would outlive an edit.
    Raises:
        VolumeError, GeometryError: as `write_labelmap`.
        OutputError: the provenance cannot be written.
    """
    text = provenance.to_json()
    beside = provenance_path(path)
    document = json.loads(text) | ({} if statistics is None else {_STATISTICS: statistics.document()})
    with writing(beside) as file:  # both or neither are replaced
        file.write(f"{json.dumps(document, indent=2)}\n".encode())
        file.flush()
        os.fsync(file.fileno())
        extent = provenance.options.shown_extent
        metadata, algorithm = {METADATA_NAME: text}, provenance.algorithm()
        write_labelmap(labelmap_kji, volume, path, metadata=metadata, extent=extent, algorithm=algorithm)
    logger.info("Written: %s and %s.", path, beside.name)


def provenance_path(result: Path) -> Path:
    """Where the provenance of a labelmap file lies: 'scan_lungs.json' of 'scan_lungs.seg.nrrd'."""
    name = result.name
    extension = next((one for one in RESULT_EXTENSIONS if name.lower().endswith(one)), result.suffix)
    return result.with_name(f"{name[: len(name) - len(extension)]}.json")


def is_free(beside: Path) -> bool:
    """Whether a provenance record may be written there: nothing else is there that it would replace."""
    if not os.path.lexists(beside):
        return True
    try:
        read_provenance(beside)
    except VolumeError:
        return False
    return True


def read_provenance(path: Path) -> Provenance:
    """The provenance in a JSON file or a .seg.nrrd, or of the JSON file beside any other labelmap.

    Raises:
        VolumeError: there is none, it is of another version of this program, or several actions made the segmentation.
    """
    if not os.path.isfile(path):
        raise VolumeError(f"{path} does not exist; give a segmentation of this program or the JSON file beside it.")
    text = None if path.suffix.lower() == ".json" else _embedded(path)
    source = path if text is not None or path.suffix.lower() == ".json" else provenance_path(path)
    try:
        fields = parse_json(read_text(source) if text is None else text, "the provenance record")
        if fields["schema"] != ACTIONS_SCHEMA:
            return _parsed(fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SAMLungSegError) as error:
        reason = str(error)[:_LONGEST_REASON]
        raise VolumeError(
            f"{path} does not say how it was made, or for another version of this program ({reason}); give a "
            "segmentation of this program or the JSON file beside it."
        ) from error
    raise VolumeError(
        f"{path} was made by several actions or slice by slice, which its tag {METADATA_NAME} lists; only what one "
        "action on the whole volume has made can be made again."
    )


def prompts_from(fields: Mapping[str, Any]) -> tuple[tuple[VolumePoint, ...], tuple[VolumeBox, ...]]:
    """Points and boxes of a JSON object with 'points' and 'boxes', both optional, as in a record's options.

    Raises:
        PromptError: they are not voxels.
        KeyError, TypeError, ValueError: they are not of that form.
    """
    points = [VolumePoint(_voxel(one["ijk"]), _truth(one.get("positive", True))) for one in _some(fields, "points")]
    boxes = [VolumeBox(_voxel(one["first_ijk"]), _voxel(one["last_ijk"])) for one in _some(fields, "boxes")]
    return tuple(points), tuple(boxes)


def _some(fields: Mapping[str, Any], kind: str) -> list[Any]:
    given = fields.get(kind, [])
    if not isinstance(given, list):
        raise TypeError(f"{kind} is no list")
    if len(given) > MOST_PROMPTS:
        raise PromptError(f"{len(given)} {kind} were given; at most {MOST_PROMPTS} are possible in one image.")
    return given


def _truth(given: Any) -> bool:
    if not isinstance(given, bool):
        raise TypeError("positive is neither true nor false")
    return given


def voxels_sha256(volume: Volume) -> str:
    """SHA-256 of a volume's type, size and values, whatever file they came from."""
    array = volume.array_kji
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    for one_slice in array:
        digest.update(np.ascontiguousarray(one_slice).data)
    return digest.hexdigest()


def is_same_place(first: Iterable[Iterable[float]], second: Iterable[Iterable[float]]) -> bool:
    """Whether two matrices (4, 4) agree to a tenth of a micrometre."""
    return np.allclose(np.array(first), np.array(second), rtol=0, atol=_SAME_PLACE_MM)


def _voxel(numbers: Any) -> tuple[float, ...]:
    if not isinstance(numbers, list) or len(numbers) > 3 or not all(map(is_number, numbers)):
        raise TypeError("a voxel is no list of two or three numbers")
    return tuple(float(number) for number in numbers)


def _embedded(path: Path) -> str | None:
    """The text in a file's own metadata."""
    try:
        return metadata_of(path, METADATA_NAME)
    except SAMLungSegError:
        return None


def _parsed(fields: dict[str, Any]) -> Provenance:
    if fields.pop("schema") != SCHEMA:
        raise ValueError("another version")
    options, model = fields["options"], fields["model"]
    fields.pop(_STATISTICS, None)
    fields.setdefault("engine", "torch")  # what earlier versions did not say
    options.setdefault("extent", "visible")
    _check_kinds(fields)
    points, boxes = prompts_from(options)
    window = Window(**options["window"])
    weights = Path(model["weights"]) if model["weights"] else None
    return Provenance(
        **fields
        | {
            "ijk_to_ras": tuple(map(tuple, fields["ijk_to_ras"])),
            "model": ModelChoice(**model | {"weights": weights}),
            "options": Options(**options | {"points": points, "boxes": boxes, "window": window}),
        }
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "image": lambda given: _is_name(given),
    "series": lambda given: given is None or isinstance(given, str),
    "image_sha256": lambda given: isinstance(given, str),
    "ijk_to_ras": is_matrix,
    "weights_sha256": lambda given: isinstance(given, dict) and all(isinstance(one, str) for one in given.values()),
    "device": lambda given: isinstance(given, str),
    "engine": lambda given: isinstance(given, str),
    "model.name": lambda given: isinstance(given, str),
    "model.weights": lambda given: given is None or _is_name(given),
    "model.keeps_embeddings": lambda given: isinstance(given, bool),
    "model.input_size": lambda given: given is None or type(given) is int,
    "model.dtype": lambda given: given is None or isinstance(given, str),
    "options.threshold": is_number,
    "options.every": lambda given: type(given) is int,
    "options.modality": lambda given: given in (None, *MODALITIES),
    "options.lungs": lambda given: isinstance(given, str),
    "options.extent": lambda given: isinstance(given, str),
    "options.window.level": is_number,
    "options.window.width": is_number,
}


def _check_kinds(fields: Mapping[str, Any]) -> None:
    """Refuse values of another kind than those of a record.

    Raises:
        KeyError, TypeError: one is not there, or of another kind.
    """
    for name, is_right in _KINDS.items():
        value: Any = fields
        for part in name.split("."):
            value = value[part]
        if not is_right(value):
            raise TypeError(f"{name} has a value that is not possible")


def _is_name(given: Any) -> bool:
    """Whether a path may be called so."""
    try:
        return isinstance(given, str) and b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        return False
