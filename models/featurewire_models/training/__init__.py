"""Trains the bundled models on real data; needs the `train` extra; the library never imports it."""
