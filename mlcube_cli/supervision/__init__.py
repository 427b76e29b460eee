"""A run that goes on without us: a plan as a program for a POSIX shell, what is asked of it there, and what it says."""
