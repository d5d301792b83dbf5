"""featurewire: the wire that client and server share."""
