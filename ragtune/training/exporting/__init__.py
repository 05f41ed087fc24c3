"""One model of base and adapter, or one adapter of several; whether it answers as before."""
