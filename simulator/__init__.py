"""Local exchanges over real sockets, with faults and with the truth; `simulator.venues` has a folder for each.

It is independent of the pipeline (aiohttp, numpy, click) and listens on 127.0.0.1 only. `python -m simulator` runs it,
`simulator.testing.running_simulator` starts it for a test, `simulator.tape.Tape` is the market it shows.
"""
