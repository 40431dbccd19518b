"""SGD on one block: updates, the order of the ratings, negatives, steps."""
