"""`python -m producers.kraken`: stream Kraken, or load its history."""

from producers.live.command import command_of

main = command_of("kraken")

if __name__ == "__main__":
    main()
