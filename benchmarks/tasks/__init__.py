"""Tasks with a known truth: generated shapes, photos and their mosaics, pairs of sentences."""
