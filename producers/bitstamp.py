"""`python -m producers.bitstamp`: Bitstamp, live."""

from producers.live.command import command_of

main = command_of("bitstamp")

if __name__ == "__main__":
    main()
