"""The modules that choose the experts of a token."""
