"""``guestagent render``: the present state as a static configuration that needs no agent.

``gather`` reads the state into the types of ``model``. Each other module is pure and writes the
files of one network stack. A new stack is one more module.
"""
