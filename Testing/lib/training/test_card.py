"""The card for people: all of it comes from the card for programs, and what was written by hand is not lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.training import TrainingConfig, export_network
from SAMLungSegLib.training.card import card_markdown

SHIPPED = Path(__file__).parents[3] / "Resources" / "Models" / "lung-compact.json"
FACTS = {"data": [{"set": "ct_kmader", "used": "2 of 3 slices", "terms": "free"}], "scores": []}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return CompactNet()


def export(net, folder, **settings):
    return export_network(net, folder, TrainingConfig(name="mine", **settings), FACTS)


def edited(weights, **texts):
    """Change the card for programs by hand, and make the one for people of it."""
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8")) | texts
    weights.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    weights.with_suffix(".md").write_text(card_markdown(card), encoding="utf-8")


def other(net):
    changed = CompactNet()
    changed.load_state_dict(net.state_dict())
    with torch.no_grad():
        next(changed.parameters()).add_(1)
    return changed


def test_the_shipped_card_for_people_is_the_one_for_programs():
    page = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    assert card_markdown(json.loads(SHIPPED.read_text(encoding="utf-8"))) == page


def test_a_new_card_has_the_parts_of_the_shipped_one(net, tmp_path):
    page = export(net, tmp_path).with_suffix(".md").read_text(encoding="utf-8")
    shipped = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    parts = [line for line in shipped.splitlines() if line.startswith("## ")]
    assert [line for line in page.splitlines() if line.startswith("## ")] == parts
    assert parts == [f"## {name}" for name in (
        "Intended use", "What the mask is", "Data", "Scores", "Limits", "How to repeat"
    )]  # fmt: skip
    assert "| ct_kmader | 2 of 3 slices | free |" in page and "samlungseg train RECIPE DATA" in page


def test_a_card_says_which_images_were_held_out(net, tmp_path):
    page = export(net, tmp_path, held_out_sets=("cxr_montgomery",)).with_suffix(".md").read_text(encoding="utf-8")
    assert "Nothing was learned from cxr_montgomery, to be tested on." in page
    assert "75 % training" not in page


def test_texts_written_by_hand_stay_when_the_weights_are_exported_again(net, tmp_path):
    weights = export(net, tmp_path)
    edited(weights, limits=["Of adults only."], how_made="Half of two runs.")
    export(net, tmp_path)
    page = weights.with_suffix(".md").read_text(encoding="utf-8")
    assert "- Of adults only." in page and "Half of two runs." in page
    assert not [*tmp_path.glob("*.earlier")]


def test_of_other_weights_what_was_measured_goes_and_the_earlier_card_is_kept(net, tmp_path, caplog):
    weights = export(net, tmp_path)
    edited(weights, limits=["Of adults only."], how_made="Half of two runs.")
    with caplog.at_level(logging.WARNING):
        export(other(net), tmp_path)
    page = weights.with_suffix(".md").read_text(encoding="utf-8")
    assert "- Of adults only." in page and "Half of two runs." not in page
    for end in (".md", ".json"):
        assert "Half of two runs." in (tmp_path / f"mine{end}.earlier").read_text(encoding="utf-8")
    assert "kept as .earlier" in caplog.text


@pytest.mark.parametrize("card", ["{}", "no card", '["a"]', '{"limits": 3}'])
def test_a_page_that_no_export_wrote_is_kept(net, tmp_path, card):
    (tmp_path / "mine.md").write_text("by hand", encoding="utf-8")
    (tmp_path / "mine.json").write_text(card, encoding="utf-8")
    export(net, tmp_path)
    assert (tmp_path / "mine.md.earlier").read_text(encoding="utf-8") == "by hand"
    assert (tmp_path / "mine.json.earlier").read_text(encoding="utf-8") == card
    assert "## Limits" in (tmp_path / "mine.md").read_text(encoding="utf-8")
