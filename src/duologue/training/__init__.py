"""Training, one module an algorithm, thin over TRL. Needs the extra `train`."""
