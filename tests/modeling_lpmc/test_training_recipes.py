"""Recipes: every shipped one resolves, and every mistake in one is named before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpmc_errors import UsageError
from modeling_lpmc.training.arguments import load_recipe, shipped_recipes

PAPER_AND_RELEASED = ("supervised", "pretrain", "transfer")


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_resolves_by_its_name(name: str) -> None:
    recipe = load_recipe(Path(name))
    assert recipe == load_recipe(Path(f"{name}.yaml"))
    assert recipe.optimisation.epochs or recipe.optimisation.updates


def test_the_recipes_of_paper_and_released_code_keep_their_disagreement() -> None:
    recipes = {
        (stage, origin): load_recipe(Path(f"{stage}_{origin}"))
        for stage in PAPER_AND_RELEASED
        for origin in ("paper", "released")
    }
    pretrain, released = recipes["pretrain", "paper"], recipes["pretrain", "released"]
    assert (pretrain.optimisation.updates, pretrain.optimisation.warmup_updates) == (32768, 1000)
    updates_an_epoch = released.data.draws_per_epoch / released.optimisation.batch_size
    assert released.optimisation.epochs == 131072 / updates_an_epoch
    assert released.optimisation.warmup_epochs == 4000 / updates_an_epoch
    assert recipes["transfer", "released"].optimisation.warmup_epochs == 20
    assert recipes["transfer", "paper"].optimisation.warmup_updates == 1000
    assert recipes["transfer", "released"].data.sampling == "ordered"
    for stage in ("supervised", "transfer"):
        assert recipes[stage, "paper"].data.captions == ("caption_ground_truth",)


def test_the_fast_pretraining_hears_the_released_number_of_clips_in_the_papers_updates() -> None:
    fast, paper = load_recipe(Path("fast")), load_recipe(Path("pretrain_paper"))
    assert fast == load_recipe(Path("pretrain_fast"))
    released = load_recipe(Path("pretrain_released"))
    assert fast.optimisation.updates == paper.optimisation.updates
    assert fast.optimisation.updates * fast.optimisation.batch_size == (
        released.optimisation.epochs * released.data.draws_per_epoch
    )
    sizes = ("d_model", "encoder_layers", "decoder_layers", "attention_heads", "feed_forward", "tokenizer")
    assert [getattr(fast.model, size) for size in sizes] == [getattr(paper.model, size) for size in sizes]


def test_only_the_fast_recipes_depart_from_the_released_optimiser() -> None:
    for name in shipped_recipes():
        run = load_recipe(Path(name)).optimisation
        if name.endswith(("_paper", "_released")):
            assert (run.weight_decay_on, run.beta2, run.max_gradient_norm, run.compile) == ("all", 0.999, 0.0, False)
        elif name.endswith("_fast"):
            assert (run.weight_decay_on, run.beta2, run.max_gradient_norm) == ("matrices", 0.98, 1.0)


def test_the_quickstart_says_that_it_is_a_demonstration() -> None:
    assert load_recipe(Path("quickstart")).model.demonstration


def test_overrides_reach_nested_keys_with_their_types() -> None:
    recipe = load_recipe(
        Path("quickstart"),
        ["data.captions=[caption_writing]", "optimisation.learning_rate=3e-4", "model.d_model=64", "data.config=null"],
    )
    assert recipe.data.captions == ("caption_writing",)
    assert recipe.optimisation.learning_rate == 3e-4
    assert recipe.model.d_model == 64
    assert recipe.data.config is None


def test_choosing_updates_replaces_the_recipes_epochs() -> None:
    run = load_recipe(Path("supervised_paper"), ["optimisation.updates=5", "optimisation.warmup_epochs=1"]).optimisation
    assert (run.updates, run.epochs, run.warmup_epochs, run.warmup_updates) == (5, None, 1.0, None)


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("optimisation: {updates: 5, lerning_rate: 0.1}", [], "did you mean optimisation.learning_rate"),
        ("optimization: {updates: 5}", [], "did you mean optimisation?"),
        ("optimisation: {updates: 5}", ["optimisation.batchsize=3"], "did you mean optimisation.batch_size"),
        ("optimisation: {updates: 5}", ["batch_size=3"], "did you mean optimisation.batch_size"),
        ("optimisation: {updates: 5}", ["data.split"], "section.key=value"),
        ("optimisation: {updates: many}", [], "optimisation.updates: is 'many', expected a whole number"),
        ("optimisation: {updates: true}", [], "expected a whole number"),
        ("optimisation: {updates: -5}", [], "optimisation.updates: is -5"),
        ("optimisation: {updates: 0}", [], "optimisation.updates: is 0"),
        ("optimisation: {updates: 5, learning_rate: .nan}", [], "optimisation.learning_rate: is nan"),
        ("optimisation: {updates: 5}", ["augmentation.level_db=.inf"], "augmentation.level_db: is inf"),
        ("optimisation: {updates: 5, epochs: 1}", [], "together with updates"),
        ("optimisation: {batch_size: 8}", [], "neither epochs nor updates"),
        ("optimisation: {updates: 5, batch_size: 8, clips_per_step: 3}", [], "does not divide batch_size 8"),
        ("{model: {spectrum: magnitude}, optimisation: {updates: 5}}", [], "choose one of real, power"),
        ("{model: {d_model: 100}, optimisation: {updates: 5}}", [], "multiple of the 12 heads"),
        ("{model: {start_from: x, d_model: 64}, optimisation: {updates: 5}}", [], "model.d_model: has no effect"),
        ("{evaluation: {generated_captions: 5}, optimisation: {updates: 5}}", [], "has no effect without"),
        ("optimisation: [updates, 5]", [], "expected keys"),
        ("optimisation: {updates: 5, beta2: 1.0}", [], "optimisation.beta2: is 1.0"),
        ("optimisation: {updates: 5, weight_decay_on: some}", [], "choose one of all, matrices"),
        ("optimisation: {updates: 5", [], "is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_remedy_in_one_line(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe_file(tmp_path, text), overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quickstart"):
        load_recipe(tmp_path / "none.yaml")
