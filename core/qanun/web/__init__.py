"""Sessions, guards, pages and the furniture of a page that plugins can contribute to.

Server-rendered: a handler parses, calls a service and renders inside its transaction. It decides nothing about records.
"""

from qanun.web.authorise import OpenContext, WebInfo, staff_actor
from qanun.web.forms import Form
from qanun.web.furniture import NavItem, PageScript, SearchHit, SearchProvider, SlotContent, patient_href
from qanun.web.pages import fragment, json_response, page, redirect, render_slot
from qanun.web.routing import delete, get, patch, post, put, websocket

__all__ = [
    "Form",
    "NavItem",
    "OpenContext",
    "PageScript",
    "SearchHit",
    "SearchProvider",
    "SlotContent",
    "WebInfo",
    "delete",
    "fragment",
    "get",
    "json_response",
    "page",
    "patch",
    "patient_href",
    "post",
    "put",
    "redirect",
    "render_slot",
    "staff_actor",
    "websocket",
]
