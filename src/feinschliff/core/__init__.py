"""The domain: chats, specs, events, reports, ports. No I/O, no frameworks."""
