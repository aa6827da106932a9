"""Pages and forms of the schedule: parse → service → render."""

from qanun_scheduling.routes.appointments import AppointmentsController
from qanun_scheduling.routes.day import DayController
from qanun_scheduling.routes.desk import DeskController

ROUTES = [DayController, DeskController, AppointmentsController]
