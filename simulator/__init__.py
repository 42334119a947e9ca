"""Local exchanges over real sockets, with faults and with the truth; `simulator.venues` holds a folder for each.

It stands alone (aiohttp, numpy, click) and listens on 127.0.0.1 only. `python -m simulator --help` runs it,
`simulator.testing.running_simulator` starts it for a test, `simulator.tape.Tape` is the market it shows.
"""
