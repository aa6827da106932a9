"""What may be done with records."""

from qanun.api import Grant, Permissions


class Emr(Permissions):
    CHART_READ = "emr.chart:read"
    RECORD_WRITE = "emr.record:write"
    ENCOUNTER_WRITE = "emr.encounter:write"
    ENCOUNTER_SIGN = "emr.encounter:sign"
    OWN_READ = "emr.own:read"


GRANTS = [
    Grant(
        role="doctor",
        permissions=(Emr.CHART_READ, Emr.RECORD_WRITE, Emr.ENCOUNTER_WRITE, Emr.ENCOUNTER_SIGN),
    ),
    Grant(role="nurse", permissions=(Emr.CHART_READ, Emr.RECORD_WRITE)),
    Grant(role="patient", permissions=(Emr.OWN_READ,)),
]
