"""Recording of consultations without decoding them: `recorder` runs in the media worker, `player` in the web process.

This package imports the standard library and, of `qanun.api`, the names around sealed streams: the media worker must
start without the rest.
"""
