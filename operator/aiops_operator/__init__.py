"""The Kopf operator: reconciles InferenceServices, merges drift, writes status."""
