"""One file per claim of the paper. They import nothing of lwz."""
