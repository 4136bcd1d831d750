"""``guestagent doctor``: what would go wrong, judged from one look at the system.

``gather`` reads, ``facts`` is what was read, ``system``, ``nics`` and ``stacks`` judge it;
the judges are pure. A new finding is a new function in one of them.
"""
