"""Version 1 of what the processes of one service say to each other."""
