"""Who plays the policy while it trains, where this process does not: vLLM, as a server or beside the trainer."""
