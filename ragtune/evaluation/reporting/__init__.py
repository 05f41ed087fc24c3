"""What an evaluation found, drawn and written: the report, several side by side, the regression gate."""
