"""The card of a trained network for people: what it is for, what it learned from, how good it is, how to repeat it.

All of it is made from the card for programs. What people write is in texts of that card, see `TEXTS`, and stays when
the network is exported again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.structures import EXTENT_MASKS, EXTENTS
from SAMLungSegLib.training.config import recipe_names
from SAMLungSegLib.training.data.splits import SPLIT_SETS, WHOLE_SETS

WIDTH = 120
SCORES = ("dice_mean", "dice_sd", "dice_min", "jaccard_mean", "box_dice_mean", "clicks_dice_mean")
MEASURED = ("scores_basis", "scores_remark", "how_made", "notes")  # texts that are true of one version of the weights
# what people write, with what is said where nobody has written anything
TEXTS: dict[str, str | list[str]] = {
    "licence": "CC BY-NC-SA 4.0, research use only: some of the training data allow no more",
    "intended_use": (
        "Right and left lung on axial chest CT slices and frontal chest X-rays of adults, in research. Not a medical "
        "device; not for diagnosis or treatment. Not for children, lateral X-rays, or after pneumonectomy."
    ),
    "mask": [
        "**X-ray**: the lung fields as the readers of the Montgomery and Shenzhen sets drew them, without the lung "
        "behind the heart and below the diaphragm's dome.",
        "**CT**: aerated and consolidated lung, without pleural effusion, trachea and main bronchi.",
        "Right and left are the patient's, learned from position: the image must be in radiological display "
        "orientation, which the pipeline takes care of where the file says how the patient lies.",
    ],
    "scores_basis": (
        "Nothing was learned from the test part or chosen by it; it is scored once for each version of the weights."
    ),
    "scores_remark": (
        "`samlungseg study quality` measures clicks, corrupted images and the predicted IoU, and draws the six lowest."
    ),
    "limits": [
        "Trained on few images: two X-ray sets from two hospitals' tuberculosis programmes, CT slices mostly from the "
        "middle of the chest, one whole chest CT. Massive effusion was hardly seen.",
        "A seventh of the Shenzhen masks hold the lung behind the heart; there the model agrees with most readers, not "
        "with those. A few tuberculosis masks cover aerated lung only.",
        "On X-rays the lower part of a lung that is white all over, by effusion or pneumonia, is often left out or "
        "drawn with a ragged border.",
        "On CT a piece of an effusion, of the liver's or of the diaphragm's dome is now and then taken for lung. The "
        "outer border of large consolidations is ragged.",
        f"Slices are seen one by one at {INPUT_SIZE} x {INPUT_SIZE} pixels; borders are as sharp as that allows.",
        "Clicks choose a lung and move the border near them; five do most of what clicks can do.",
    ],
    "how_made": "",
    "notes": [],
}


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people.

    Args:
        card: that for programs, see `export.export_network`; of `TEXTS` those that it has.
    """
    card = {**TEXTS, **card}
    return f"""# {card["name"]}

{markdown_paragraph(_summary(card))}

**Licence**: {card["licence"]}.

## Intended use

{markdown_paragraph(card["intended_use"])}

## What the mask is

{markdown_list(card["mask"])}

## Data

| set | used | terms |
|---|---|---|
{markdown_rows([row["set"], row["used"], row["terms"]] for row in card["data"])}

{markdown_paragraph(_split(card))}

## Scores

{markdown_paragraph(f"{_SCORED} {card['scores_basis']}")}

| set | split | mask | images | Dice mean | SD | min | Jaccard mean | one box | three clicks |
|---|---|---|---|---|---|---|---|---|---|
{markdown_rows(_score_cells(row) for row in card["scores"])}

{markdown_paragraph(card["scores_remark"])}

## Limits

{markdown_list(card["limits"])}

## How to repeat

```
samlungseg study quality DATA -o quality            # the scores, and the six lowest on images of yours
{_command(card["name"])}
```

{markdown_paragraph(_making(card))}
"""


_SCORED = (
    "Both lungs together, no prompt, at the images' full size, through the same pipeline that users run. The last two "
    "columns are mean Dice with prompts: of single lungs with a box of up to 10 pixels of jitter, and of both lungs "
    "after three clicks, each in the middle of the largest error left. Masks of X-rays: "
    + "; ".join(f"{extent}, {mask}" for extent, mask in EXTENT_MASKS.items())
    + ". On CT both are one."
)


def _score_cells(row: Mapping[str, Any]) -> list[str]:
    """Of a row that says no extent, masks are of visible lungs: an earlier version measured it."""
    numbers = (row[name] for name in SCORES)
    return [
        *(str(cell) for cell in (row["set"], row["split"], row.get("extent", EXTENTS[0]), row["images"])),
        *("-" if number is None else f"{number:.4f}" for number in numbers),
    ]


def _summary(card: Mapping[str, Any]) -> str:
    return (
        f"A promptable network of {card['parameters'] / 1e6:.1f} million parameters for right and left lung on CT "
        "slices and chest X-rays: a convolutional pyramid encoder with SAM's prompt encoder and mask decoder. "
        f"{card['size_bytes'] / 1e6:.1f} MB, float16, SHA-256 `{card['sha256']}`."
    )


def _split(card: Mapping[str, Any]) -> str:
    """Which images were learned from: what `data.packs.is_trained_on` takes."""
    held_out = card.get("held_out_sets", [])
    if held_out:
        return (
            f"Nothing was learned from {_enumerated(held_out)}, to be tested on. Of the other sets the images of "
            "training and test were learned from; a tenth, by a hash of their names, was for validation."
        )
    names = [row["set"] for row in card["data"]]
    whole = [name for name in names if name in WHOLE_SETS]
    only = [name for name in names if name not in (*SPLIT_SETS, *WHOLE_SETS)]
    patients = f" (of {_enumerated(whole)}: of their patients' names)" if whole else ""
    text = f"Images were split by a hash of their names{patients} into 75 % training, 10 % validation, 15 % test."
    if not only:
        return text
    return f"{text} {_enumerated(only)} are training data only: what the model does on them is not a held-out result."


def _command(name: str) -> str:
    recipe = name if name in recipe_names() else "RECIPE"
    what = "from nothing, by a recipe of the same parts" if recipe == name else "by the settings of the card, as TOML"
    return f"{f'samlungseg train {recipe} DATA -o output':<52}# {what}"


def _making(card: Mapping[str, Any]) -> str:
    basics = "Cross entropy and soft Dice, AdamW, one cosine cycle, averaged weights."
    rest = f"`{card['name']}.json` lists settings and notes."
    return " ".join(filter(None, (basics, card["how_made"], rest)))


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def markdown_rows(rows: Any) -> str:
    """Rows of cells, as a table in Markdown has them."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def markdown_list(texts: Sequence[str]) -> str:
    """One bullet each."""
    return "\n".join(_wrapped(text, initial_indent="- ", subsequent_indent="  ") for text in texts)


def markdown_paragraph(text: str) -> str:
    """Wrapped."""
    return _wrapped(text.strip())


def _wrapped(text: str, **indents: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False, **indents)
