"""What may be done with appointments."""

from qanun.api import N_, Grant, Permissions


class Scheduling(Permissions):
    DAY_READ = "scheduling.day:read", N_("See the day of the practitioners")
    DESK_USE = "scheduling.desk:use", N_("Work at the reception desk")
    APPOINTMENT_READ = "scheduling.appointment:read", N_("See appointments")
    APPOINTMENT_BOOK = "scheduling.appointment:book", N_("Book, move on and cancel appointments")
    HOURS_MANAGE = "scheduling.hours:manage", N_("Say when practitioners are there, and when the clinic is shut")
    OWN_READ = "scheduling.own:read", N_("See one’s own appointments")


GRANTS = [
    Grant(role="doctor", permissions=(Scheduling.DAY_READ, Scheduling.APPOINTMENT_READ, Scheduling.APPOINTMENT_BOOK)),
    Grant(role="nurse", permissions=(Scheduling.DAY_READ, Scheduling.APPOINTMENT_READ, Scheduling.APPOINTMENT_BOOK)),
    Grant(
        role="reception",
        permissions=(
            Scheduling.DESK_USE,
            Scheduling.APPOINTMENT_READ,
            Scheduling.APPOINTMENT_BOOK,
            Scheduling.HOURS_MANAGE,
        ),
    ),
    Grant(role="administrator", permissions=(Scheduling.HOURS_MANAGE,)),
    Grant(role="patient", permissions=(Scheduling.OWN_READ,)),
]
