"""The cards of the project on the Hub: rendered from facts that were counted, and linted without a network."""

from hub_cards.croissant import render_croissant
from hub_cards.facts import ConfigFacts, Making, SplitFacts, read_config
from hub_cards.lint import Problem, lint_dataset
from hub_cards.lint_cards import lint_directory, lint_metric, lint_model, lint_space
from hub_cards.render import render_dataset_card
from hub_cards.render_model import render_model_card
from hub_cards.render_space import render_metric_card, render_space_card

__all__ = [
    "ConfigFacts",
    "Making",
    "Problem",
    "SplitFacts",
    "lint_dataset",
    "lint_directory",
    "lint_metric",
    "lint_model",
    "lint_space",
    "read_config",
    "render_croissant",
    "render_dataset_card",
    "render_metric_card",
    "render_model_card",
    "render_space_card",
]
