"""What gets compiled: each jitted step of a run, built from plain arguments."""
