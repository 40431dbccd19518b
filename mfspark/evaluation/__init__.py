"""Rating and ranking metrics, cross-validation and tuning."""
