"""ALS on one block: the half step, the solvers of a row, Gibbs draws."""
