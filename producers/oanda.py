"""`python -m producers.oanda`: OANDA, live."""

from producers.live.command import command_of

main = command_of("oanda")

if __name__ == "__main__":
    main()
