"""By how much, surely or by luck: intervals, paired tests, corrections, what a number of questions can show."""
