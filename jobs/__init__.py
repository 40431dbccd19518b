"""One file per spark-submit entry point: parse the arguments, call the library, return an exit code."""
