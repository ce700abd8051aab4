"""Data in, artifact directory out: model, baseline, expectations, manifest."""
