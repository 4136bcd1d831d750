"""``guestagent doctor``: checks for faults that appear when the VF comes or goes.

``gather`` reads the facts from the system; the checks in ``system``, ``nics`` and ``stacks`` are
pure. A new check is a new function in one of them, listed in ``examine``.
"""
