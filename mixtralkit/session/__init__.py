"""A loaded model with its engine on every rank: what the command line, the server and the Python API start from."""
