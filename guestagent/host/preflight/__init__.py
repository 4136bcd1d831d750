"""``check``: gathers facts about both hosts and the guest, and applies rules to them."""
