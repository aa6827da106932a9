"""Who sees how the machine is, and who may ask it to act."""

from qanun.api import Grant, Permissions


class Appliance(Permissions):
    HEALTH_READ = "appliance.health:read"
    WISH_MAKE = "appliance.wish:make"


GRANTS = [Grant(role="administrator", permissions=(Appliance.HEALTH_READ, Appliance.WISH_MAKE))]
