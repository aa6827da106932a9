"""Pages and sockets: staff's, the patient's, guests', and the playing of recordings."""

from qanun_telemedicine.routes.attachments import GuestFilesController, PatientFilesController, StaffFilesController
from qanun_telemedicine.routes.consents import ConsentsController
from qanun_telemedicine.routes.devices import DevicesController
from qanun_telemedicine.routes.export import ExportController
from qanun_telemedicine.routes.groups import GroupsController
from qanun_telemedicine.routes.guests import GuestsController, GuestVisitController
from qanun_telemedicine.routes.kept import KeptController
from qanun_telemedicine.routes.my_recording import MyRecordingController
from qanun_telemedicine.routes.pictures import MyPicturesController, PicturesController
from qanun_telemedicine.routes.playback import PlaybackController
from qanun_telemedicine.routes.quality import QualityController
from qanun_telemedicine.routes.retention import RetentionController
from qanun_telemedicine.routes.room import WaitingRoomController
from qanun_telemedicine.routes.staff import StaffController
from qanun_telemedicine.routes.transcripts import MyTranscriptsController, TranscriptsController
from qanun_telemedicine.routes.visit import VisitController
from qanun_telemedicine.routes.whip import WhipController
from qanun_telemedicine.routes.written import AskController, BeginController, WrittenController

ROUTES = (
    StaffController,
    VisitController,
    GuestsController,
    GuestVisitController,
    GroupsController,
    WaitingRoomController,
    QualityController,
    WrittenController,
    BeginController,
    AskController,
    StaffFilesController,
    PatientFilesController,
    GuestFilesController,
    PlaybackController,
    MyRecordingController,
    RetentionController,
    ExportController,
    ConsentsController,
    KeptController,
    PicturesController,
    MyPicturesController,
    TranscriptsController,
    MyTranscriptsController,
    DevicesController,
    WhipController,
)

__all__ = ["ROUTES"]
