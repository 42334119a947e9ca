"""Exchange adapters: symbols, WebSocket messages and REST answers, a folder per venue."""
