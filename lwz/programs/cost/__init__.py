"""What a program costs, read from what the compiler says: memory, FLOPs, collectives, seconds."""
