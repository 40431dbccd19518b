"""From ratings in columns to CSR blocks by user and by item."""
