"""What an exchange is: its symbols, its messages, its answers by REST."""
