"""Tests of the recipe in training/."""
