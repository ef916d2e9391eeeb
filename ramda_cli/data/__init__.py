"""Image classification data: sources, splits, transforms and loaders."""
