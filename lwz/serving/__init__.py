"""A policy behind an OpenAI-compatible server: protocol, the thread that writes, routes, a page."""
