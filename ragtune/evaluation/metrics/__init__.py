"""The field's metrics of texts and of rankings, each held against its reference library in the tests."""
