"""The transactional outbox and the live line to open pages.

An event is stored with the act it announces; its handlers run after commit, each in its own transaction and tenant
scope, at least once. Payloads carry ids and codes: no names, no free text.
"""

from qanun.events.live import LiveLine, LiveNotice
from qanun.events.outbox import Event, EventHandler, EventType, StoredEvent, deliver, event_payload, write

__all__ = [
    "Event",
    "EventHandler",
    "EventType",
    "LiveLine",
    "LiveNotice",
    "StoredEvent",
    "deliver",
    "event_payload",
    "write",
]
