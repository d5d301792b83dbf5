"""The commands of `featurewire`, one file for what belongs together."""
