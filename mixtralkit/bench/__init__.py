"""How fast a model runs here, and how fast this machine would let it: measurements, and their limits' formulas."""
