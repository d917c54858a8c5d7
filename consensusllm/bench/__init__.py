"""Measures clusters side by side: ours, etcd, PySyncObj, and the floor below all of them.

It looks at them from outside, as a user's program does: over the network, and in /proc. `figures`,
`gaps`, `goals`, `report` and `plots` are pure; the rest starts processes. Nothing is guessed: what
is not installed is named as missing, and a measurement that failed says why.
"""
