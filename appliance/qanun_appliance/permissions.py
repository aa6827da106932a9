"""Who sees how the machine is, and who may ask it to act."""

from qanun.api import N_, Grant, Permissions


class Appliance(Permissions):
    HEALTH_READ = "appliance.health:read", N_("See how the machine is")
    WISH_MAKE = "appliance.wish:make", N_("Ask the machine to act: update, back up, restart")
    RELEASE_MANAGE = "appliance.release:manage", N_("Bring in a release, choose when it starts, go back")


GRANTS = [
    Grant(role="administrator", permissions=(Appliance.HEALTH_READ, Appliance.WISH_MAKE, Appliance.RELEASE_MANAGE))
]
