"""Ratings in: readers, quality rules, ids, splits and the synthetic source."""
