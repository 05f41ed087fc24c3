"""Where wrong answers were lost, stage by stage, as a waterfall."""
