"""How arrays move in Spark, and nothing about factorization."""
