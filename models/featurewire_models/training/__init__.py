"""Trains the bundled small models on real data; needs the `train` extra, is never imported by the library."""
