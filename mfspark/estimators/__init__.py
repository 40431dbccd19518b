"""What a user imports: thin estimators that turn parameters into a call of training."""
