"""Blocks, carriers and the training loops on Spark: the only place with UDF adapters."""
