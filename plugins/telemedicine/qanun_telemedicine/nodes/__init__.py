"""Media nodes: other machines whose workers take whole rooms. `gateway` runs on the clinic's machine, `agent` on the node.

A node keeps no records and no recordings. It forwards media, so the keys of the calls it carries are in its memory: a node
is a machine that the clinic trusts with its calls while they last, and with nothing of them afterwards.
"""
