"""``check``: gathers facts about both hosts and the guest, and judges them."""
