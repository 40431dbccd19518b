"""A model whose sides stay on the workers: every question is a join of blocks, and the driver sees a few numbers."""
