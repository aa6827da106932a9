"""Pages and forms of the schedule: parse → service → render."""

from qanun_scheduling.routes.appointments import AppointmentsController
from qanun_scheduling.routes.day import DayController
from qanun_scheduling.routes.desk import DeskController
from qanun_scheduling.routes.hours import HoursController

ROUTES = [DayController, DeskController, AppointmentsController, HoursController]
