"""The recipe of the embedded model, from prompts to evaluation. Run with `python -m training.STEP`."""
