"""The training room: of whole networks by a recipe, of decoders on embeddings, on the user's own images or in studies.

`config` and `data` say from what is learned, `trainer` owns the one loop; `compact`, `promptable`, `decoder` and
`parts` use it.
"""

from importlib import import_module

_EXPORTS = {
    "Phase": "config",
    "PromptPolicy": "prompt_policies",
    "RecipeError": "config",
    "StudyCase": "data.cases",
    "TrainedPart": "parts",
    "TrainingConfig": "config",
    "TuneOptions": "fine_tune",
    "TuneResult": "fine_tune",
    "TuningConfig": "decoder",
    "check_target": "fine_tune",
    "data_facts": "data.packs",
    "export_network": "export",
    "export_sam": "promptable_export",
    "halved_sam": "promptable_export",
    "not_adopted": "fine_tune",
    "pack": "data.packs",
    "paired_cases": "data.cases",
    "read_config": "config",
    "read_manifest": "data.manifest",
    "recipe_names": "config",
    "recipe_of_training": "prompt_policies",
    "sam_model": "promptable_export",
    "score": "scores",
    "score_prompts": "promptable_export",
    "seen_note": "fine_tune",
    "target_path": "fine_tune",
    "train": "compact",
    "train_part": "parts",
    "train_sam": "promptable",
    "trained_network": "export",
    "tune": "fine_tune",
    "tune_decoder": "decoder",
}

__all__ = [*_EXPORTS]  # loaded on first use, so that what says which images were seen needs no torch


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
