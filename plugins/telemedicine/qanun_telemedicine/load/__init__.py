"""What this machine carries: rooms full of made-up participants on a media worker of their own, measured.

    qanun telemedicine load --rooms 20 --participants 3 --bitrate 1000 --seconds 20

Real ICE, DTLS and SRTP from end to end. It never touches the worker that serves the clinic, but takes processor time from it:
not for the middle of a working day.
"""
