"""The selective forwarding unit: receives each participant's audio and video once and forwards it to the others, undecoded.

It runs as a process of its own (`worker`) that the web process talks to through `client`. It knows rooms and participants by
opaque ids, nothing of patients, tenants or consent, and imports nothing of `qanun`.
"""
