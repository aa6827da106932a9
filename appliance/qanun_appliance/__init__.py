"""What stands around Qanun's code on a machine: services rendered from one file, first boot, doctor, backup, update.

It decides nothing about medicine and holds no table; what it knows of a clinic is what an operator wrote into `site.toml`.
"""
