"""Which weights are tuned, how a model is made ready for it, and how they are kept and saved."""
