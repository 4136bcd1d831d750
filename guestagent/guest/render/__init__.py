"""``guestagent render``: the present state as a static configuration that needs no agent.

``gather`` reads the state, ``model`` is what was read, and each other module writes the files
of one network stack from it; those are pure. A new stack is one more module.
"""
