"""NumPy float32 reference of every component, written to be read."""
