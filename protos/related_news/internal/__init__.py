"""Between the processes of one service."""
