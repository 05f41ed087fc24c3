"""The HTTP backend around the stages: an assistant that applications, browsers and the usual clients talk to."""
