"""Presets: how much of a run params.yaml asks for; a file each."""
