"""What may be done with records."""

from qanun.api import N_, Grant, Permissions


class Emr(Permissions):
    CHART_READ = "emr.chart:read", N_("Open records")
    RECORD_WRITE = "emr.record:write", N_("Write allergies, problems, medicines and vital signs")
    ENCOUNTER_WRITE = "emr.encounter:write", N_("Write notes")
    ENCOUNTER_SIGN = "emr.encounter:sign", N_("Sign notes")
    OWN_READ = "emr.own:read", N_("Read one’s own record")


GRANTS = [
    Grant(
        role="doctor",
        permissions=(Emr.CHART_READ, Emr.RECORD_WRITE, Emr.ENCOUNTER_WRITE, Emr.ENCOUNTER_SIGN),
    ),
    Grant(role="nurse", permissions=(Emr.CHART_READ, Emr.RECORD_WRITE)),
    Grant(role="patient", permissions=(Emr.OWN_READ,)),
]
