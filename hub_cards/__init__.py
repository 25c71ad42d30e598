"""The cards of the project on the Hub: rendered from facts that were counted, and linted without a network."""

from hub_cards.facts import ConfigFacts, Making, SplitFacts, read_config
from hub_cards.lint import Problem, lint_dataset, lint_model
from hub_cards.render import render_dataset_card, render_model_card

__all__ = [
    "ConfigFacts",
    "Making",
    "Problem",
    "SplitFacts",
    "lint_dataset",
    "lint_model",
    "read_config",
    "render_dataset_card",
    "render_model_card",
]
