"""Recipes of trained models: each module registers its own."""

from recipes import boosted, columns, plain, sentences, steps
from recipes.registry import RECIPES, Trained

__all__ = ["RECIPES", "Trained", "boosted", "columns", "plain", "sentences", "steps"]
