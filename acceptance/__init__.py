"""Real clients, unmodified, against `mixtralkit serve` on the demo model: `make acceptance`.

Each client has a virtual environment of its own, made from the package index. Nothing is fetched from a model hub.
"""
