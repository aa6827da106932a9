"""What may be done with appointments."""

from qanun.api import Grant, Permissions


class Scheduling(Permissions):
    DAY_READ = "scheduling.day:read"
    DESK_USE = "scheduling.desk:use"
    APPOINTMENT_READ = "scheduling.appointment:read"
    APPOINTMENT_BOOK = "scheduling.appointment:book"
    OWN_READ = "scheduling.own:read"


GRANTS = [
    Grant(role="doctor", permissions=(Scheduling.DAY_READ, Scheduling.APPOINTMENT_READ, Scheduling.APPOINTMENT_BOOK)),
    Grant(role="nurse", permissions=(Scheduling.DAY_READ, Scheduling.APPOINTMENT_READ, Scheduling.APPOINTMENT_BOOK)),
    Grant(
        role="reception", permissions=(Scheduling.DESK_USE, Scheduling.APPOINTMENT_READ, Scheduling.APPOINTMENT_BOOK)
    ),
    Grant(role="patient", permissions=(Scheduling.OWN_READ,)),
]
