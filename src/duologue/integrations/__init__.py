"""Other systems that Duologue can hand its work to."""
