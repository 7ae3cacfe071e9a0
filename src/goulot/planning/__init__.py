"""Planning: what each stage will cost on this machine, from a trial on small cuts, and what fits a budget."""
