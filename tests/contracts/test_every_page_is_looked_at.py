"""No page is left out of the places that `tests/browser` looks at, unless it is said here why.

The places' own tests hold that each shows the route that it names.
"""

from __future__ import annotations

from qanun.app.web import all_routes
from tests.browser.still.places import PLACES as STILL
from tests.browser.story.places import PLACES as STORY

#: What is read but is not a page that somebody looks at, and why.
NO_PAGE = {
    "/": "leads on to the first page that one may open",
    "/confirm": "a part of whatever page asks who it is once more",
    "/portal/{clinic:str}/confirm": "a part of whatever page asks who it is once more",
    "/health": "for programs",
    "/static/{slug:str}/{digest:str}/{file:path}": "files",
    "/guest/{clinic:str}/visits/{consultation_id:uuid}/files/{file_id:uuid}": "a file",
    "/portal/{clinic:str}/visits/{consultation_id:uuid}/files/{file_id:uuid}": "a file",
    "/portal/{clinic:str}/visits/{consultation_id:uuid}/pictures/{picture_id:uuid}": "a picture",
    "/portal/{clinic:str}/visits/for/{appointment_id:uuid}": "leads on to the visit",
    "/portal/{clinic:str}/visits/{consultation_id:uuid}/transcripts/{transcript_id:uuid}": "needs a recogniser of speech",
    "/scheduling/desk/patients": "the part of the desk that lists who was found",
    "/telemedicine/appointments/{appointment_id:uuid}": "leads on to the consultation",
    "/telemedicine/certificates/{certificate_id:uuid}/file": "a file",
    "/telemedicine/consultations/{consultation_id:uuid}/files/{file_id:uuid}": "a file",
    "/telemedicine/consultations/{consultation_id:uuid}/open": "leads on to the chart or the consultation",
    "/telemedicine/consultations/{consultation_id:uuid}/pictures/{picture_id:uuid}": "a picture",
    "/telemedicine/consultations/{consultation_id:uuid}/transcripts/{transcript_id:uuid}": "needs a recogniser of speech",
    "/telemedicine/groups/new": "looked at in test_groups.py",
    "/telemedicine/groups/{group_id:uuid}": "looked at in test_groups.py",
    "/telemedicine/recordings/{recording_id:uuid}/exports/{export_id:uuid}/file": "a file",
    "/telemedicine/whip/{clinic:str}/{device_id:uuid}": "for a device that sends",
    "/telemedicine/whip/{clinic:str}/{device_id:uuid}/{session:uuid}": "for a device that sends",
}


def test_every_page_is_looked_at_or_it_is_said_why_not(application):
    read = {
        path
        for path, handler in all_routes(application)
        # Parts that pages fetch while they are open, and streams.
        if "GET" in getattr(handler, "http_methods", ()) and not handler.opt.get("live")
    }
    looked_at = {place.route for place in (*STILL, *STORY)} - {""}
    assert sorted(read - looked_at - set(NO_PAGE)) == [], "pages that nothing looks at"
    assert sorted(looked_at - read) == [], "places of routes that are not there"
    assert sorted(set(NO_PAGE) - read) == [], "reasons for what is not there"
    assert sorted(set(NO_PAGE) & looked_at) == [], "reasons for what is looked at"


def test_places_have_names_of_their_own():
    for places in (STILL, STORY):
        names = [place.name for place in places]
        assert sorted(names) == sorted(set(names))
