"""MILI, the Mojo Inference Language Engine."""
