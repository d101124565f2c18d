"""The definitions, in `keras.ops`: what every backend is held to."""
