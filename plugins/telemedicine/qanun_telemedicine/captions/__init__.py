"""What is said in a call, written along on the clinic's own machine: from the media worker's packets to words on the pages.

A tap in the worker passes on the sound of those who agreed, a process of its own decodes and recognises it, and the web
processes hear the words and tell the pages. Sound is never stored; words only when everybody in the call agreed to that
(`service.transcripts`).
"""
