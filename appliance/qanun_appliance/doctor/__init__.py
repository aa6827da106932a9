"""The doctor: everything a person would look at on this machine, in words, with the mend beside each finding.

Findings are codes with values; their sentences stand in `sentences`, so that the command, the report and the pages say
the same in every language.
"""

from qanun_appliance.doctor.finding import Finding, Level
from qanun_appliance.doctor.round import examine, worst, written

__all__ = ["Finding", "Level", "examine", "worst", "written"]
