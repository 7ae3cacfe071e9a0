"""Duplicates and near-duplicates: candidates, how alike two images are, the threshold, groups."""
