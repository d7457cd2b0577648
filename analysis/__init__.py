"""MLflow stores to tidy frames, frames to tables. Knows nothing of torch or Ray."""
