"""The generated messages and stubs of `featurewire.v1`; `make proto` writes them."""
