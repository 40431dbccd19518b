"""Matrix factorization on Apache Spark, kept in Delta tables."""
