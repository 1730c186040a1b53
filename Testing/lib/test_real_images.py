"""The bundled model on real images. The test part of each set was never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.pipeline import Segmentation, segment, segment_volume
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import corrective_click, jittered_box
from SAMLungSegLib.training.data.packs import LabelledSlice, paired_examples
from SAMLungSegLib.training.data.splits import split_of
from SAMLungSegLib.training.scores import score
from SAMLungSegLib.volume import Volume, axial_plane, read_volume

LEAST_DICE = {"cxr_montgomery": 0.965, "cxr_shenzhen": 0.955, "ct_kmader": 0.96}


@pytest.fixture(scope="module")
def covid(shared_data) -> Segmentation:
    """A whole chest CT with consolidations."""
    return segment(shared_data / "ct_ricord_dicom", device="cpu")


def held_out(folder: Path, count: int) -> list[LabelledSlice]:
    return [one for one in paired_examples(folder) if split_of(one.name) == "validation" and one.sides_known][:count]


def grey_of(example: LabelledSlice) -> np.ndarray:
    return to_grey(example.image, example.modality)


@pytest.mark.slow
def test_held_out_images_reach_the_promised_dice(shared_data, model):
    rows = {row["set"]: row for row in score(model, shared_data, "test") if row["extent"] == "visible"}
    assert set(rows) == set(LEAST_DICE)
    for name, least in LEAST_DICE.items():
        assert rows[name]["dice_mean"] >= least


def test_a_chest_ct_gives_two_lungs_of_plausible_size(covid):
    litres = [np.sum(covid.labelmap_kji == side) * np.prod(covid.volume.spacing_mm) / 1e6 for side in (1, 2)]
    assert 1.2 < litres[0] < 1.9 and 1.3 < litres[1] < 1.9


def test_stomach_gas_table_and_surroundings_are_not_lung(covid):
    labelmap = covid.labelmap_nhw
    assert not labelmap[:5].any(), "the lowest slices hold stomach gas only"
    assert not labelmap[:, 440:].any(), "the table lies there"
    hu = covid.plane.to_display(covid.volume.array_kji)
    assert not labelmap[hu < -1500].any(), "outside the reconstruction circle"


def test_the_trachea_is_not_lung(covid):
    """Above the carina (slice 68) the trachea is the largest pocket of nearly pure air in the middle of the body."""
    labelmap, hu = covid.labelmap_nhw, covid.plane.to_display(covid.volume.array_kji)
    inside, total = 0, 0
    for index in range(70, 95):
        pure = ndimage.gaussian_filter(hu[index].astype(np.float32), 1) < -930
        components, count = ndimage.label(pure[180:330, 210:310])
        if count == 0:
            continue
        trachea = components == np.argmax(np.bincount(components.ravel())[1:]) + 1
        inside += np.sum(labelmap[index, 180:330, 210:310][trachea] > 0)
        total += trachea.sum()
    assert total > 2000
    assert inside < 0.1 * total


def test_the_right_lung_is_on_the_right(covid):
    centres = [np.argwhere(covid.labelmap_kji == side).mean(axis=0)[::-1] for side in (1, 2)]
    right, left = (covid.volume.ijk_to_ras @ [*centre, 1] for centre in centres)
    assert right[0] > left[0]


def test_an_abdomen_has_lung_at_its_upper_end_only(shared_data, model):
    folder = shared_data / "ct_abdomen_totalseg"
    result = segment(folder / "example_ct.nii.gz", model=model).labelmap_nhw
    volume = read_volume(folder / "example_seg_fast_force_split.nii.gz")
    organs = axial_plane(volume).to_display(volume.array_kji)
    lowest = np.flatnonzero(np.isin(organs, range(10, 15)).any(axis=(1, 2)))[0]
    below = result[: lowest - 3]
    assert np.sum(below > 0) * 0.027 < 10, "less than 10 ml"


@pytest.mark.parametrize("name", ["coronacases_001_{}_slice_98", "coronacases_001_{}_slice_122"])
def test_covid_slices_of_another_hospital_are_segmented(shared_data, model, name):
    """Stored with rows to the patient's left and columns to anterior, labels 1 = left, 2 = right."""
    folder = shared_data / "ct_coronacases"
    hu, labels = (np.load(folder / f"{name.format(kind)}.npy") for kind in ("image", "masks"))
    transposed = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    result = segment_volume(Volume(hu[None].astype(np.int16), transposed, name, "CT"), model).labelmap_kji[0]
    assert dice(labels == 2, result == 1) > 0.93
    assert dice(labels == 1, result == 2) > 0.93


def test_a_tiny_ct_of_4_mm_voxels_is_segmented_side_for_side(shared_data, model):
    folder = shared_data / "ct_cip_64"
    regions = read_volume(folder / "lm-64.nrrd").array_kji & 255
    result = segment(folder / "ct-64.nrrd", model=model).labelmap_kji
    for side, thirds in ((1, (12, 13, 14)), (2, (9, 10, 11))):
        assert dice(np.isin(regions, thirds), result == side) > 0.9


@pytest.mark.parametrize("set_name", [*LEAST_DICE])
def test_a_box_selects_one_lung_as_well_as_the_model_knows_it(shared_data, model, set_name):
    scores, unprompted = [], []
    for example in held_out(shared_data / set_name, 6):
        embedding = model.encode([grey_of(example)])[0]
        side_logits = [*model.decode(embedding, PromptSet()).structure_logits.values()]
        for side in (1, 2):
            lung = example.labelmap == side
            box = BoxPrompt(jittered_box(lung, np.random.default_rng(0), 8))
            scores.append(dice(lung, model.decode(embedding, PromptSet(box=box)).logits > 0))
            unprompted.append(dice(lung, side_logits[side - 1] > 0))
    assert np.mean(scores) > 0.9
    assert np.mean(scores) > np.mean(unprompted) - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("set_name", ["cxr_montgomery", "cxr_shenzhen"])
def test_corrective_clicks_raise_the_worst_answers(shared_data, model, set_name):
    examples = held_out(shared_data / set_name, 14)
    embeddings = [model.encode([grey_of(example)])[0] for example in examples]
    answers = [model.decode(embedding, PromptSet()).logits for embedding in embeddings]
    before = [dice(example.labelmap > 0, logits > 0) for example, logits in zip(examples, answers, strict=True)]
    worst = np.argsort(before)[:4]
    after = []
    for index in worst:
        points, logits, truth = (), answers[index], examples[index].labelmap > 0
        for _ in range(5):
            click = corrective_click(logits > 0, truth)
            points += (PointPrompt(*click),)
            logits = model.decode(embeddings[index], PromptSet(points, mask=MaskPrompt(logits))).logits
        after.append(dice(truth, logits > 0))
    assert np.mean(after) > np.mean(np.array(before)[worst])


def test_a_threshold_and_a_side_are_respected_on_a_real_xray(shared_data, model):
    path = sorted((shared_data / "cxr_shenzhen" / "images").iterdir())[0]
    both = segment(path, model=model).labelmap_kji
    left = segment(path, model=model, lungs="left", threshold=0.9).labelmap_kji
    assert not (left == 1).any()
    assert 0 < np.sum(left == 2) < np.sum(both == 2)
