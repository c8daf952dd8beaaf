"""The model's mathematics in NumPy, one file a component, written to be read.

Nothing here is fast and nothing but NumPy is imported. What a kernel computes is defined here, what the engine computes
is tested against it, and it is itself tested against an independent library (tests/reference).

Arrays are float32; a component computes in the type it is given, so that a test may ask for float64. Shapes use the
symbols of docs/architecture.md: T tokens, S tokens in the context, H query heads, KH key/value heads, D head dimension,
E hidden size, I intermediate size, V vocabulary.
"""
