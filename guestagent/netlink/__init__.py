"""A netlink codec and an rtnetlink socket of our own, for both programs.

The agent uses these alone: it runs in every guest, and the boot waits for its early unit. The
import of pyroute2 (0.7.2, 0.7.7, 0.8.1 and 0.9.7 with Python 3.11, native) takes 115 to 140 ms of
CPU time and 24 to 26 MiB; that of this package 12 ms and 2 MiB, most of it for the standard
library. pyroute2 also makes an object of each of a link's sixty attributes, which takes seven
times as long as decoding the link here, and it drops attributes that its version does not know,
without an error: a moved route or address must be the same afterwards.

The host helper uses pyroute2, and this package for the requests that pyroute2 cannot encode. The
tests use pyroute2 as the second opinion on what is encoded and decoded here.
"""
