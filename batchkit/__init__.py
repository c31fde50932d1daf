"""batchkit takes a batch LLM job from pilot to promotion over Anthropic's Message Batches API."""
