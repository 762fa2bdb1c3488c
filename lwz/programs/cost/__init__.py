"""Cost of a program, read from what the compiler says: memory, FLOPs, collectives, seconds."""
