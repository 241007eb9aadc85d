"""The modules the four scripts join: one direction, from ntuples to a browsable run."""
