"""One task, run many times with values that differ: which members that makes, where their values go, and what came of them."""
