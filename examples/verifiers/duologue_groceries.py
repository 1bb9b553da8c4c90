"""Duologue's `groceries` as an environment for `vf-eval` and prime-rl. README.md tells how to call them."""

from __future__ import annotations

from duologue.integrations.verifiers import ChatHarness, ConversationEnv, ConversationTaskset


class GroceriesTaskset(ConversationTaskset):
    """Users who want something from the shop, and do not say everything at once."""

    TASK = "groceries"  # any task that a recipe can name, or a Task of your own


__all__ = ["ChatHarness", "ConversationEnv", "GroceriesTaskset"]
