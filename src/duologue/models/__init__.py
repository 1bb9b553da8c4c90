"""Models: messages in, one reply out."""
